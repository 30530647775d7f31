"""Rendering as token ids: turns paths into the segments that the models read.

The format's own words are tokenised with special tokens read as such; what users and programs wrote is tokenised with
them split into plain characters, so that nobody can forge one. A step contributes the policy's own tokens and is never
tokenised again. Training renders its examples through this module too.
"""

from functools import lru_cache
from itertools import chain
from pathlib import Path as FilePath
from typing import Protocol

from tokenizers import Tokenizer

from search.format import SPECIAL_TOKENS, STOP_TOKENS, Segment, output_segments, prompt_segments
from search.outcomes import CandidateStop
from search.protocols import Path
from server.engines.errors import CheckpointError

END_OF_TEXT = "<|endoftext|>"
"""Padding and end of sequence; a policy that writes it gave up in the middle of a step."""

_PROMPTS_KEPT = 1024
"""Problems whose tokens are remembered: more than searches run at once, and a few megabytes at most."""


class PathRendering(Protocol):
    """How a model reads paths."""

    def token_ids(self, path: Path) -> tuple[int, ...]:
        """The path as one sequence; a reward model's score is that of its last token."""
        ...


class StepTokenizer:
    """The tokenizer of a checkpoint, with the step format's special tokens."""

    def __init__(self, file: FilePath) -> None:
        self._trusted = _load(file, splits_special_tokens=False)
        self._untrusted = _load(file, splits_special_tokens=True)
        self.special_ids = {token: self._special_id(file, token) for token in (*SPECIAL_TOKENS, END_OF_TEXT)}
        self.stops = {self.special_ids[token]: stop for token, stop in STOP_TOKENS.items()}
        """Stop reason by the token that ends a candidate."""
        self.stops[self.special_ids[END_OF_TEXT]] = CandidateStop.LENGTH
        self.size = 1 + max(self._trusted.get_vocab(with_added_tokens=True).values())
        """Token ids are below it; a model's vocabulary may be padded beyond."""

    def encode(self, segment: Segment) -> tuple[int, ...]:
        """The segment's tokens. What is not valid Unicode (half a surrogate pair) becomes a question mark."""
        tokenizer = self._trusted if segment.is_trusted else self._untrusted
        text = segment.text.encode("utf-8", errors="replace").decode("utf-8")
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_step(self, text: str, stop: CandidateStop) -> tuple[int, ...]:
        """The tokens of a step that somebody else than the policy wrote, stop token included."""
        word = next(word for word, meaning in STOP_TOKENS.items() if meaning is stop)
        return self.encode(Segment(text + word, is_trusted=True))

    def decode_step(self, token_ids: tuple[int, ...]) -> str:
        """A step's text: without the stop token, other special tokens spelt out."""
        ends = bool(token_ids) and token_ids[-1] in self.stops
        return self._trusted.decode(list(token_ids[:-1] if ends else token_ids), skip_special_tokens=False)

    def _special_id(self, file: FilePath, token: str) -> int:
        ids = self._trusted.encode(token, add_special_tokens=False).ids
        if len(ids) != 1:
            raise CheckpointError(f"{file}: special token {token} is missing; expected it among the added tokens")
        if ids[0] in self._untrusted.encode(token, add_special_tokens=False).ids:
            raise CheckpointError(f"{file}: {token} is not marked special, so that a problem could forge it")
        return ids[0]


class PathTokens:
    """Paths as segments of token ids: the prompt, then one segment per step with the output that follows it."""

    def __init__(self, tokenizer: StepTokenizer) -> None:
        self._tokenizer = tokenizer
        self._prompt = lru_cache(maxsize=_PROMPTS_KEPT)(self._encode_prompt)

    def segments(self, path: Path) -> tuple[tuple[int, ...], ...]:
        """Joined, what the model reads; the cuts fall where paths of one search part.

        Raises ValueError for a step whose tokens are not this tokenizer's.
        """
        steps = (
            step.token_ids if step.output is None else step.token_ids + self._encode(output_segments(step.output))
            for step in path.steps
        )
        for step in path.steps:
            if not all(0 <= token < self._tokenizer.size for token in step.token_ids):
                raise ValueError(f"a step holds tokens outside 0 to {self._tokenizer.size - 1}; another model wrote it")
        return tuple(segment for segment in (self._prompt(path.problem), *steps) if segment)

    def token_ids(self, path: Path) -> tuple[int, ...]:
        """The path as one sequence."""
        return tuple(chain.from_iterable(self.segments(path)))

    def _encode_prompt(self, problem: str) -> tuple[int, ...]:
        return self._encode(prompt_segments(problem))

    def _encode(self, segments: tuple[Segment, ...]) -> tuple[int, ...]:
        return tuple(chain.from_iterable(self._tokenizer.encode(segment) for segment in segments))


def _load(file: FilePath, *, splits_special_tokens: bool) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # The library raises bare Exception for a file it cannot read.
        raise CheckpointError(f"{file}: unreadable tokenizer ({error})") from error
    tokenizer.encode_special_tokens = splits_special_tokens
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
