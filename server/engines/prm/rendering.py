"""Paths for reward models that do not read the policy's tokens: steps go by their text, one by one, never joined.

Everything in a path but the format's own marks was written by somebody: it is encoded with special tokens split into
plain characters, so that neither a problem nor a step can forge a separator.
"""

from functools import lru_cache
from pathlib import Path as FilePath

from tokenizers import Tokenizer

from search.format import ANSWER, STOP_TOKENS, Segment, output_segments, prompt_segments
from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.errors import CheckpointError
from server.engines.rendering import StepTokenizer

_STEPS_KEPT = 4096
"""Steps whose tokens are remembered: those of all running searches."""

STEP_SEPARATOR = "<extra_0>"
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
"""The prompt with which Qwen2.5-Math-PRM was trained."""


class StepTextTokens:
    """The step format in the tokens of a PPM of ours that was made for another policy than the one that writes."""

    def __init__(self, tokenizer: StepTokenizer) -> None:
        self._tokenizer = tokenizer
        self._segment = lru_cache(maxsize=_STEPS_KEPT)(tokenizer.encode)
        self._marks = {meaning: word for word, meaning in STOP_TOKENS.items()}

    def token_ids(self, path: Path) -> tuple[int, ...]:
        """The path as one sequence."""
        segments = [*prompt_segments(path.problem)]
        for step in path.steps:
            segments += self._step(step)
        return tuple(token for segment in segments for token in self._segment(segment))

    def _step(self, step: PathStep) -> list[Segment]:
        text = step.text
        segments: list[Segment] = []
        if step.stop is CandidateStop.END_OF_ANSWER and text.lstrip().startswith(ANSWER):
            segments.append(Segment(f"\n{ANSWER}", is_trusted=True))
            text = text.lstrip().removeprefix(ANSWER)
        segments.append(Segment(text, is_trusted=False))
        if step.stop in self._marks:
            segments.append(Segment(self._marks[step.stop], is_trusted=True))
        return segments if step.output is None else [*segments, *output_segments(step.output)]


class PrmTokens:
    """The format of Qwen2.5-Math-PRM: a chat whose answer holds the steps, a separator after each."""

    def __init__(self, file: FilePath) -> None:
        self._trusted = Tokenizer.from_file(str(file))
        self._untrusted = Tokenizer.from_file(str(file))
        self._untrusted.encode_special_tokens = True
        self._segment = lru_cache(maxsize=_STEPS_KEPT)(self._encode)
        self.size = 1 + max(self._trusted.get_vocab(with_added_tokens=True).values())
        self.separator_id = self._special_id(file, STEP_SEPARATOR)
        for mark in ("<|im_start|>", "<|im_end|>"):
            self._special_id(file, mark)

    def token_ids(self, path: Path) -> tuple[int, ...]:
        """The path as one sequence, up to its last separator; a path without steps has one separator too."""
        ids = [
            *self._segment(Segment(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n", is_trusted=True)),
            *self._segment(Segment(path.problem, is_trusted=False)),
            *self._segment(Segment("<|im_end|>\n<|im_start|>assistant\n", is_trusted=True)),
        ]
        for step in path.steps:
            ids += [*self._segment(Segment(step_prose(step), is_trusted=False)), self.separator_id]
        return tuple(ids) if path.steps else (*ids, self.separator_id)

    def encode_trusted(self, text: str) -> tuple[int, ...]:
        """The tokens of a text in which special tokens are meant as such."""
        return self._encode(Segment(text, is_trusted=True))

    def _encode(self, segment: Segment) -> tuple[int, ...]:
        tokenizer = self._trusted if segment.is_trusted else self._untrusted
        text = segment.text.encode("utf-8", errors="replace").decode("utf-8")
        return tuple(tokenizer.encode(text, add_special_tokens=False).ids)

    def _special_id(self, file: FilePath, token: str) -> int:
        ids = self._trusted.encode(token, add_special_tokens=False).ids
        if len(ids) != 1 or ids[0] in self._untrusted.encode(token, add_special_tokens=False).ids:
            raise CheckpointError(f"{file}: expected {token} among the special tokens, as Qwen2.5-Math-PRM has it")
        return ids[0]


def step_prose(step: PathStep) -> str:
    """A step as such a model knows solutions: code and its output in fences, the answer as a sentence."""
    text = step.text.strip().removeprefix(ANSWER).strip()
    if step.stop is CandidateStop.END_OF_ANSWER:
        return text
    code = f"```python\n{text}\n```"
    return code if step.output is None else f"{code}\n```output\n{step.output}\n```"
