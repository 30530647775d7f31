# pyright: basic
"""Fine-tuning data: trajectories as token ids, with a mask of what the policy wrote.

Only the policy's own tokens carry loss. The problem and the program's output are given to it at inference, and
learning to write outputs would teach it to invent execution results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from search.format import ANSWER, output_segments, prompt_segments
from search.outcomes import CandidateStop
from server.engines.rendering import StepTokenizer
from training.trajectories import Trajectory


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence."""

    token_ids: tuple[int, ...]
    is_target: tuple[bool, ...]
    """True where the policy wrote the token."""

    @property
    def prompt_length(self) -> int:
        """Tokens before the first that the policy wrote."""
        return self.is_target.index(True)


def answer_text(answer: str) -> str:
    """The answer step, as the policy writes it."""
    return f"\n{ANSWER}The answer is \\boxed{{{answer}}}."


def encode(trajectory: Trajectory, tokenizer: StepTokenizer) -> Example:
    """Tokenise step by step, just as search does: no token ever spans a step's border."""
    last = len(trajectory.steps) - 1
    stops = [CandidateStop.END_OF_CODE if index == last else CandidateStop.END_OF_STEP for index in range(last + 1)]
    steps = [tokenizer.encode_step(text, stop) for text, stop in zip(trajectory.steps, stops, strict=True)]
    given = [tokenizer.encode(segment) for segment in prompt_segments(trajectory.question)]
    shown = [tokenizer.encode(segment) for segment in output_segments(trajectory.output)]
    answer = tokenizer.encode_step(answer_text(trajectory.answer), CandidateStop.END_OF_ANSWER)
    token_ids: list[int] = []
    is_target: list[bool] = []
    for pieces, wrote in ((given, False), (steps, True), (shown, False), ([answer], True)):
        for ids in pieces:
            token_ids += ids
            is_target += [wrote] * len(ids)
    return Example(tuple(token_ids), tuple(is_target))


def batches(
    examples: Sequence[Example], *, tokens: int, generator: torch.Generator, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of shuffled batches of similar prompt lengths, right-padded: ids_B_T and is_target_B_T.

    A batch holds at most `tokens` tokens, padding included. Whole lengths would pad less, but they tell the strategies
    of a family apart: batches of one strategy each teach the policy to be sure of whichever came last.
    """
    order = torch.randperm(len(examples), generator=generator).tolist()
    window = 4096  # sort by length within windows: little padding, and still a fresh mixture every epoch
    chunks: list[list[int]] = []
    for start in range(0, len(order), window):
        chunks.append([])
        longest = 0
        for index in sorted(order[start : start + window], key=lambda index: examples[index].prompt_length):
            longest = max(longest, len(examples[index].token_ids))
            if chunks[-1] and longest * (len(chunks[-1]) + 1) > tokens:
                chunks.append([])
                longest = len(examples[index].token_ids)
            chunks[-1].append(index)
    for position in torch.randperm(len(chunks), generator=generator).tolist():
        yield _padded([examples[index] for index in chunks[position]], pad_id)


def _padded(examples: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(example.token_ids) for example in examples)
    width = -(-longest // 16) * 16  # attention kernels are up to twice as fast at such lengths
    ids_B_T = torch.full((len(examples), width), pad_id)
    is_target_B_T = torch.zeros((len(examples), width), dtype=torch.bool)
    for row, example in enumerate(examples):
        ids_B_T[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        is_target_B_T[row, : len(example.is_target)] = torch.tensor(example.is_target)
    return ids_B_T, is_target_B_T
