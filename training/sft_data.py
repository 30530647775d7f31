"""Fine-tuning data: trajectories as token ids, with a mask of what the policy wrote.

Only the policy's own tokens carry loss. The problem and the program's output are given to it at inference, and
learning to write outputs would teach it to invent execution results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from search.format import ANSWER, END_OF_ANSWER, END_OF_CODE, END_OF_STEP, Segment, output_segments, prompt_segments
from training.trajectories import Trajectory


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence."""

    token_ids: tuple[int, ...]
    is_target: tuple[bool, ...]
    """True where the policy wrote the token."""


def answer_text(answer: str) -> str:
    """The answer step, as the policy writes it."""
    return f"\n{ANSWER}The answer is \\boxed{{{answer}}}."


def encode(trajectory: Trajectory, tokenizer: Tokenizer) -> Example:
    """Tokenise step by step, just as search does: no token ever spans a step's border."""
    pieces: list[tuple[Segment, bool]] = [(segment, False) for segment in prompt_segments(trajectory.question)]
    last = len(trajectory.steps) - 1
    for index, step in enumerate(trajectory.steps):
        pieces.append((Segment(step + (END_OF_CODE if index == last else END_OF_STEP), is_trusted=True), True))
    pieces += [(segment, False) for segment in output_segments(trajectory.output)]
    pieces.append((Segment(answer_text(trajectory.answer) + END_OF_ANSWER, is_trusted=True), True))
    token_ids: list[int] = []
    is_target: list[bool] = []
    for segment, wrote in pieces:
        ids = encode_segment(segment, tokenizer)
        token_ids += ids
        is_target += [wrote] * len(ids)
    return Example(tuple(token_ids), tuple(is_target))


def encode_segment(segment: Segment, tokenizer: Tokenizer) -> list[int]:
    """Token ids of a segment; special tokens in untrusted text are split into plain characters."""
    tokenizer.encode_special_tokens = not segment.is_trusted
    return tokenizer.encode(segment.text, add_special_tokens=False).ids


def batches(
    examples: Sequence[Example], *, tokens: int, generator: torch.Generator, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of shuffled batches of similar lengths, right-padded: ids_B_T and is_target_B_T.

    A batch holds about `tokens` tokens, padding included.
    """
    order = torch.randperm(len(examples), generator=generator).tolist()
    window = 4096  # sort by length within windows: little padding, and still a fresh mixture every epoch
    chunks: list[list[int]] = []
    for start in range(0, len(order), window):
        by_length = sorted(order[start : start + window], key=lambda index: len(examples[index].token_ids))
        while by_length:
            size = max(1, tokens // len(examples[by_length[-1]].token_ids))
            chunks.append(by_length[-size:])
            del by_length[-size:]
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
