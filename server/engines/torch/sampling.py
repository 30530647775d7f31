# pyright: basic
"""Sampling: turns logits and uniform numbers into tokens. Draws nothing itself.

A row's token depends on its own logits, numbers and rule alone, never on the rows beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NUMBERS_PER_TOKEN = 2
"""Uniform numbers a row needs for one token: a draw, and the second one that a draw outside the nucleus needs."""


class Rule(NamedTuple):
    """How one row draws."""

    temperature: float
    """0 takes the likeliest token."""
    top_p: float


class Choice(NamedTuple):
    """What was sampled, per row."""

    tokens: list[int]
    logprobs: list[float]
    """Natural log-probabilities at temperature 1, before any truncation."""


def choose(logits_B_V: Tensor, numbers: Sequence[Sequence[float]], rules: Sequence[Rule]) -> Choice:
    """Nucleus sampling, row by row; the likeliest token where a row's temperature is 0, whatever its numbers.

    The first draw is from the whole distribution. A draw outside the nucleus is replaced by one from the nucleus, which
    gives every token of it the mass p + (1 - mass of the nucleus)·p / mass of the nucleus, as it should be, and spares
    sorting the rows (nearly all) whose first draw is good. Tokens as likely as the nucleus's last one belong to it.
    """
    warm = [rule.temperature > 0 for rule in rules]
    if not any(warm):
        tokens = logits_B_V.argmax(dim=-1, keepdim=True)
    else:
        tokens = _sample(logits_B_V, torch.tensor(numbers, dtype=torch.float64).T, rules)
        if not all(warm):
            likeliest = logits_B_V.argmax(dim=-1, keepdim=True)
            tokens = torch.where(torch.tensor(warm).unsqueeze(1), tokens, likeliest)
    logprobs = logits_B_V.gather(1, tokens) - logits_B_V.logsumexp(dim=-1, keepdim=True)
    return Choice(tokens.squeeze(1).tolist(), logprobs.squeeze(1).tolist())


def _sample(logits_B_V: Tensor, numbers_2_B: Tensor, rules: Sequence[Rule]) -> Tensor:
    """A token for every row; rows of temperature 0 get some token."""
    temperatures_B = torch.tensor([rule.temperature or 1.0 for rule in rules])
    probabilities = torch.softmax(logits_B_V / temperatures_B.unsqueeze(1), dim=-1)
    tokens = _draw(probabilities, numbers_2_B[0])
    if any(rule.top_p < 1 for rule in rules):
        top_ps_B = torch.tensor([rule.top_p for rule in rules])
        likelier = probabilities > probabilities.gather(1, tokens)
        # The sum of a whole row may round up to 1: a row with top_p 1 is never redrawn.
        outside = ((probabilities * likelier).sum(dim=-1) >= top_ps_B) & (top_ps_B < 1)
        if outside.any():
            redrawn = _nucleus(probabilities[outside], top_ps_B[outside])
            tokens[outside] = _draw(redrawn, numbers_2_B[1][outside])
    return tokens


def _draw(weights: Tensor, numbers: Tensor) -> Tensor:
    """Inverse cumulative distribution, in order of token id: a rounding difference that swaps two nearly equal tokens
    does not change what a number picks. The total is kept out of reach, since a number may round up to it."""
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1]
    points = (numbers * total).float().minimum(total.nextafter(torch.zeros(())))
    return torch.searchsorted(cumulative, points.unsqueeze(1), right=True)


def _nucleus(probabilities: Tensor, top_ps: Tensor) -> Tensor:
    """The probabilities with everything outside the smallest set that holds its share of the mass set to 0."""
    descending = probabilities.sort(dim=-1, descending=True).values
    last = (descending.cumsum(dim=-1) < top_ps.unsqueeze(1)).sum(dim=-1, keepdim=True)
    last.clamp_(max=probabilities.shape[-1] - 1)
    return probabilities * (probabilities >= descending.gather(1, last))
