"""Paths for reward models that do not read the policy's tokens: steps go by their text, one by one, never joined.

All text of a path comes from users, models or programs, except the format's own marks. It is encoded with special
tokens split into plain characters, so that neither a problem nor a step can forge a separator.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path as FilePath

from search import CandidateStop, Path, PathStep
from search.format import ANSWER, STOP_TOKENS, Segment, output_segments, prompt_segments
from server.engines.errors import CheckpointError
from server.engines.rendering import PathRendering, PathSegments, SegmentTokenizer

_STEPS_KEPT = 4096
"""Steps whose tokens are remembered: those of all running searches."""

STEP_SEPARATOR = "<extra_0>"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
"""The prompt with which Qwen2.5-Math-PRM was trained."""


class StepTextTokens(PathRendering):
    """The step format in the tokens of our own PPM, when it was made for another policy than the one served."""

    def __init__(self, tokenizer: SegmentTokenizer) -> None:
        self.tokenizer = tokenizer
        self._encode = lru_cache(maxsize=_STEPS_KEPT)(tokenizer.encode)
        self._marks = {meaning: word for word, meaning in STOP_TOKENS.items()}

    def segments(self, path: Path) -> PathSegments:
        """The prompt, then the steps."""
        parts = (prompt_segments(path.problem), *map(self._step, path.steps))
        return tuple(tuple(chain.from_iterable(map(self._encode, part))) for part in parts)

    def _step(self, step: PathStep) -> Sequence[Segment]:
        text = step.text
        segments: list[Segment] = []
        if step.stop is CandidateStop.END_OF_ANSWER and text.lstrip().startswith(ANSWER):
            segments.append(Segment(f"\n{ANSWER}", is_trusted=True))
            text = text.lstrip().removeprefix(ANSWER)
        segments.append(Segment(text, is_trusted=False))
        if step.stop in self._marks:
            segments.append(Segment(self._marks[step.stop], is_trusted=True))
        return segments if step.output is None else [*segments, *output_segments(step.output)]


class PrmTokens(PathRendering):
    """The format of Qwen2.5-Math-PRM: a chat whose answer holds the steps, a separator after each."""

    def __init__(self, file: FilePath) -> None:
        self.tokenizer = SegmentTokenizer(file)
        self._encode = lru_cache(maxsize=_STEPS_KEPT)(self.tokenizer.encode)
        for mark in (STEP_SEPARATOR, "<|im_start|>", "<|im_end|>"):
            try:
                self.tokenizer.special_id(mark)
            except CheckpointError as error:
                expected = f"expected {mark} among the special tokens, as Qwen2.5-Math-PRM has it"
                raise CheckpointError(f"{file}: {expected}") from error
        self.separator_id = self.tokenizer.special_id(STEP_SEPARATOR)

    def segments(self, path: Path) -> PathSegments:
        """The prompt, then the steps; the last token is a separator, also of a path without steps."""
        prompt = (
            *self._encode(Segment(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n", is_trusted=True)),
            *self._encode(Segment(path.problem, is_trusted=False)),
            *self._encode(Segment("<|im_end|>\n<|im_start|>assistant\n", is_trusted=True)),
        )
        steps = [self._encode(Segment(step_prose(step), is_trusted=False)) for step in path.steps] or [()]
        return (prompt, *((*step, self.separator_id) for step in steps))


def step_prose(step: PathStep) -> str:
    """A step as such a model knows solutions: code and its output in fences, the answer as a sentence."""
    text = step.text.strip().removeprefix(ANSWER).strip()
    if step.stop is CandidateStop.END_OF_ANSWER:
        return text
    code = f"```python\n{text}\n```"
    return code if step.output is None else f"{code}\n```output\n{step.output}\n```"
