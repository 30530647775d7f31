"""Rendering as token ids: turns paths into the segments that the models read.

In our own text, special tokens are read as such. In text from users and programs they are split into plain characters,
so that such text cannot forge one. A step contributes the policy's own tokens and is never tokenised again. Training
renders its examples through this module too.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path as FilePath
from typing import TypeAlias

from tokenizers import Tokenizer

from search import CandidateStop, Path
from search.format import SPECIAL_TOKENS, STOP_TOKENS, Segment, output_segments, prompt_segments
from server.engines.errors import CheckpointError

TokenSegment: TypeAlias = tuple[int, ...]
PathSegments: TypeAlias = tuple[TokenSegment, ...]

END_OF_TEXT = "<|endoftext|>"
"""Padding and end of sequence. A policy that writes it stops in the middle of a step."""

_PROMPTS_KEPT = 256
"""Problems whose tokens are remembered: more than searches run at once. A few-shot prompt has some thousand tokens."""


class SegmentTokenizer:
    """A model's tokenizer. Special tokens are read as such only in trusted text; other text cannot forge one."""

    def __init__(self, file: FilePath) -> None:
        """Raises `CheckpointError`."""
        self._file = file
        try:
            self._trusted, self._untrusted = (Tokenizer.from_file(str(file)) for _ in range(2))
        except Exception as error:  # The library raises bare Exception for a file it cannot read.
            raise CheckpointError(f"{file}: unreadable tokenizer ({error})") from error
        for tokenizer in (self._trusted, self._untrusted):
            tokenizer.no_truncation()
            tokenizer.no_padding()
        self._untrusted.encode_special_tokens = True
        self.vocabulary = self._trusted.get_vocab(with_added_tokens=True)
        self.size = 1 + max(self.vocabulary.values())
        """Token ids are below it; a model's vocabulary may be padded beyond."""

    def encode(self, segment: Segment) -> tuple[int, ...]:
        """The segment's tokens. Invalid Unicode (half a surrogate pair) becomes a question mark."""
        tokenizer = self._trusted if segment.is_trusted else self._untrusted
        text = segment.text.encode("utf-8", errors="replace").decode("utf-8")
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text of the tokens, with special tokens spelt out."""
        return self._trusted.decode(list(token_ids), skip_special_tokens=False)

    def first_ids(self) -> tuple[int, ...]:
        """The tokens that the model expects in front of any text."""
        with_first, without = (self._trusted.encode("a", add_special_tokens=adds).ids for adds in (True, False))
        return tuple(with_first[: -len(without)]) if with_first[-len(without) :] == without else ()

    def special_id(self, token: str) -> int:
        """Raises `CheckpointError` unless it is one token that untrusted text cannot hold."""
        ids = self.encode(Segment(token, is_trusted=True))
        if len(ids) != 1:
            raise CheckpointError(f"{self._file}: special token {token} is missing; expected it among the added tokens")
        if ids[0] in self.encode(Segment(token, is_trusted=False)):
            raise CheckpointError(f"{self._file}: {token} is not marked special, so that a problem could forge it")
        return ids[0]


class StepTokenizer(SegmentTokenizer):
    """The tokenizer of a model that knows the step format's special tokens."""

    def __init__(self, file: FilePath) -> None:
        super().__init__(file)
        self.special_ids = {token: self.special_id(token) for token in (*SPECIAL_TOKENS, END_OF_TEXT)}
        self.stops = {self.special_ids[token]: stop for token, stop in STOP_TOKENS.items()}
        """Stop reason by the token that ends a candidate."""
        self.stops[self.special_ids[END_OF_TEXT]] = CandidateStop.LENGTH

    def encode_step(self, text: str, stop: CandidateStop) -> tuple[int, ...]:
        """The tokens of a step that the policy did not write, stop token included."""
        word = next(word for word, meaning in STOP_TOKENS.items() if meaning is stop)
        return self.encode(Segment(text + word, is_trusted=True))

    def decode_step(self, token_ids: tuple[int, ...]) -> str:
        """A step's text, without the stop token."""
        ends = bool(token_ids) and token_ids[-1] in self.stops
        return self.decode(token_ids[:-1] if ends else token_ids)


def joined(segments: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """All tokens as one sequence."""
    return tuple(chain.from_iterable(segments))


class PathRendering(ABC):
    """How a model reads paths."""

    tokenizer: SegmentTokenizer

    @abstractmethod
    def segments(self, path: Path) -> PathSegments:
        """The text that the model reads, cut where paths of one search part.

        Raises ValueError for a step whose tokens are not this tokenizer's.
        """

    def token_ids(self, path: Path) -> tuple[int, ...]:
        """The path as one sequence; a reward model's score is that of its last token."""
        return joined(self.segments(path))


class PathTokens(PathRendering):
    """The step format: the prompt, then one segment per step with the output that follows it."""

    def __init__(self, tokenizer: SegmentTokenizer) -> None:
        self.tokenizer = tokenizer
        self._prompt = lru_cache(maxsize=_PROMPTS_KEPT)(self.encode_prompt)

    def segments(self, path: Path) -> PathSegments:
        """See `PathRendering.segments`."""
        steps = (
            step.token_ids if step.output is None else step.token_ids + self._encode(output_segments(step.output))
            for step in path.steps
        )
        for step in path.steps:
            if not step.token_ids:
                raise ValueError("a step has no tokens: tokenise its text first")
            if not all(0 <= token < self.tokenizer.size for token in step.token_ids):
                raise ValueError(f"a step holds tokens outside 0 to {self.tokenizer.size - 1}; another model wrote it")
        return tuple(segment for segment in (self._prompt(path.problem), *steps) if segment)

    def encode_prompt(self, problem: str) -> tuple[int, ...]:
        """The tokens before the first step."""
        return self._encode(prompt_segments(problem))

    def _encode(self, segments: tuple[Segment, ...]) -> tuple[int, ...]:
        return joined(map(self.tokenizer.encode, segments))
