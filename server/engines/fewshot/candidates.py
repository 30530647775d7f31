"""Candidates from few-shot completions: finds the mark that ends a step in the text, and cuts the tokens there.

The model's own tokens are kept. Only where the token that completes the mark goes on behind it is that one token
written again, up to the mark. Pure.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from search.boxed import extract_boxed
from search.format import ANSWER, END_OF_ANSWER, OUTPUT, STOP_TOKENS, Segment
from search.outcomes import CandidateStop
from search.protocols import Candidate
from server.engines.fewshot.completer import Completion

STOP_STRINGS = (*STOP_TOKENS, OUTPUT)
"""What ends a generation: the ends of steps, and the program's output, whose writer has lost the thread. vLLM takes no
more than four."""


class TextTokens(Protocol):
    """The part of a tokenizer that is needed here."""

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
    """The step that a completion holds; one that never gets to a mark is cut off."""
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
    # A last token that began inside a character leaves no clean cut; what it says behind the mark is then kept.
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
