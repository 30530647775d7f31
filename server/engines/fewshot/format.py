"""The few-shot format: how any instruct model reads paths and writes steps, with a `tokenizer.json` and a prompt.

Our marks are plain text to such a model. Text from users or programs must not forge one, so a mark inside it is changed
(`<answer>` becomes `< answer>`), and the model's own special tokens are split there into plain characters. Steps are
the model's own tokens, never tokenised again. There is one exception: if the token that completes a mark continues
behind it, that token is encoded again, up to the mark.
"""

from collections.abc import Collection, Sequence
from pathlib import Path as FilePath
from typing import NamedTuple, Protocol, cast

from search import Candidate, CandidateStop, Path
from search.format import ANSWER, END_OF_ANSWER, OUTPUT, SPECIAL_TOKENS, STOP_TOKENS, Segment, extract_boxed
from server.engines.errors import CheckpointError
from server.engines.fewshot.prompt import Frame, frame_of
from server.engines.model_folder import ModelFolder
from server.engines.policy import Completion, StepFormat
from server.engines.rendering import PathTokens, SegmentTokenizer

STOP_STRINGS = (*STOP_TOKENS, OUTPUT)
"""Texts that end a generation: the ends of steps, and the program's output, which the model must not write. vLLM takes
at most four."""


class DisarmingTokenizer(SegmentTokenizer):
    """A tokenizer to which our marks are plain text."""

    def encode(self, segment: Segment) -> tuple[int, ...]:
        """The segment's tokens, without a mark of ours where it is not to be trusted."""
        return super().encode(segment if segment.is_trusted else Segment(disarmed(segment.text), is_trusted=False))


class FewShotFormat(PathTokens, StepFormat):
    """The prompt that an instruct model reads, and the steps that it writes after it."""

    def __init__(self, file: FilePath, frame: Frame, *, end_ids: Collection[int]) -> None:
        """`end_ids`: the tokens with which the model ends its turn."""
        super().__init__(DisarmingTokenizer(file))
        self.encode, self.decode, self.size = self.tokenizer.encode, self.tokenizer.decode, self.tokenizer.size
        self.end_ids = frozenset(end_ids)
        self.stop_token_ids, self.stop_strings = tuple(sorted(self.end_ids)), STOP_STRINGS
        first = self.tokenizer.first_ids()
        # The chat template may have put it there already.
        has_first = bool(first) and frame.before.startswith(self.tokenizer.decode(first))
        before = self.tokenizer.encode(Segment(frame.before, is_trusted=True))
        self._before = before if has_first else (*first, *before)
        self._after = self.tokenizer.encode(Segment(frame.after, is_trusted=True))

    def encode_prompt(self, problem: str) -> tuple[int, ...]:
        """Instruction and examples included."""
        return (*self._before, *self.tokenizer.encode(Segment(problem, is_trusted=False)), *self._after)

    def candidate(self, completion: Completion, path: Path) -> Candidate:
        """See `StepFormat.candidate`."""
        code_has_ended = bool(path.steps) and path.steps[-1].stop is CandidateStop.END_OF_CODE
        return candidate_of(completion, self, code_has_ended=code_has_ended)


def read_format(folder: ModelFolder, frame: Frame | None = None) -> FewShotFormat:
    """The format for a model, by its own chat template unless a frame is given. Raises `CheckpointError`."""
    file = folder.file("tokenizer.json")
    end_ids: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder.path / name).is_file():
            value = folder.read_json(name).get("eos_token_id")
            ids = cast(list[object], value) if isinstance(value, list) else [value]
            end_ids |= {token for token in ids if isinstance(token, int)}
    if not end_ids:
        raise CheckpointError(
            f"{folder.path}: no eos_token_id in config.json or generation_config.json; a turn has no end"
        )
    return FewShotFormat(file, frame or frame_of(folder.path), end_ids=end_ids)


def disarmed(text: str) -> str:
    """Text from outside with our marks broken."""
    for mark in SPECIAL_TOKENS:
        text = text.replace(mark, f"< {mark[1:]}")
    return text


class TextTokens(Protocol):
    """The methods of a tokenizer that this module needs."""

    @property
    def end_ids(self) -> frozenset[int]: ...

    def encode(self, segment: Segment) -> tuple[int, ...]: ...

    def decode(self, token_ids: Sequence[int]) -> str: ...


class _Mark(NamedTuple):
    start: int
    word: str

    @property
    def end(self) -> int:
        return self.start + len(self.word)


def candidate_of(completion: Completion, tokens: TextTokens, *, code_has_ended: bool) -> Candidate:
    """The step in a completion; a completion without a mark is a step that was cut off."""
    token_ids = completion.token_ids
    text = tokens.decode(token_ids)
    mark = _first_mark(text)
    if mark is None and code_has_ended and token_ids and token_ids[-1] in tokens.end_ids:
        answered = _closed_answer(completion, tokens)
        if answered is not None:
            return answered
    if mark is None or mark.word not in STOP_TOKENS:
        return Candidate(text=text, token_ids=token_ids, logprob=completion.logprob, stop=CandidateStop.LENGTH)
    return Candidate(
        text=text[: mark.start],
        token_ids=_through_mark(token_ids, text, mark, tokens),
        logprob=completion.logprob,
        stop=STOP_TOKENS[mark.word],
    )


def _first_mark(text: str) -> _Mark | None:
    found = [_Mark(text.index(word), word) for word in STOP_STRINGS if word in text]
    return min(found, default=None)


def _through_mark(token_ids: Sequence[int], text: str, mark: _Mark, tokens: TextTokens) -> tuple[int, ...]:
    """The tokens up to the end of the mark."""
    length = len(token_ids)
    while length > 1 and mark.word in tokens.decode(token_ids[: length - 1])[mark.start :]:
        length -= 1
    if tokens.decode(token_ids[:length]) == text[: mark.end]:
        return tuple(token_ids[:length])
    head = tokens.decode(token_ids[: length - 1])
    # A last token that began inside a character leaves no clean cut; its text behind the mark is then kept.
    if not text.startswith(head):
        return tuple(token_ids[:length])
    return (*token_ids[: length - 1], *tokens.encode(Segment(text[len(head) : mark.end], is_trusted=True)))


def _closed_answer(completion: Completion, tokens: TextTokens) -> Candidate | None:
    """An answer that the model closed by ending its turn, as instruct models do, gets the mark that it lacks."""
    kept = completion.token_ids[:-1]
    text = tokens.decode(kept)
    if not text.lstrip().startswith(ANSWER) or extract_boxed(text) is None:
        return None
    return Candidate(
        text=text,
        token_ids=(*kept, *tokens.encode(Segment(END_OF_ANSWER, is_trusted=True))),
        logprob=completion.logprob,
        stop=CandidateStop.END_OF_ANSWER,
    )
