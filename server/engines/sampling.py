# pyright: basic
"""Sampling: turns logits and uniform numbers into tokens. Draws nothing itself.

A row's token depends on its own logits and its own numbers alone, never on the rows beside it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

NUMBERS_PER_TOKEN = 2
"""Uniform numbers a row needs for one token: a draw, and the second one that a draw outside the nucleus needs."""


class Choice(NamedTuple):
    """What was sampled, per row."""

    tokens: list[int]
    logprobs: list[float]
    """Natural log-probabilities at temperature 1, before any truncation."""


def choose(logits_B_V: Tensor, numbers: Sequence[Sequence[float]], *, temperature: float, top_p: float) -> Choice:
    """Nucleus sampling; the likeliest token where temperature is 0, and then `numbers` is not read.

    The first draw is from the whole distribution. A draw outside the nucleus is replaced by one from the nucleus, which
    gives every token of it the mass p + (1 - mass of the nucleus)·p / mass of the nucleus, as it should be, and spares
    sorting the rows (nearly all) whose first draw is good. Tokens as likely as the nucleus's last one belong to it.
    """
    if temperature == 0:
        tokens = logits_B_V.argmax(dim=-1, keepdim=True)
    else:
        numbers_2_B = torch.tensor(numbers, dtype=torch.float64).T
        probabilities = torch.softmax(logits_B_V / temperature, dim=-1)
        tokens = _draw(probabilities, numbers_2_B[0])
        if top_p < 1:
            likelier = probabilities > probabilities.gather(1, tokens)
            outside = (probabilities * likelier).sum(dim=-1) >= top_p
            if outside.any():
                redrawn = _nucleus(probabilities[outside], top_p)
                tokens[outside] = _draw(redrawn, numbers_2_B[1][outside])
    logprobs = logits_B_V.gather(1, tokens) - logits_B_V.logsumexp(dim=-1, keepdim=True)
    return Choice(tokens.squeeze(1).tolist(), logprobs.squeeze(1).tolist())


def _draw(weights: Tensor, numbers: Tensor) -> Tensor:
    """Inverse cumulative distribution, in order of token id: a rounding difference that swaps two nearly equal tokens
    does not change what a number picks. The total is kept out of reach, since a number may round up to it."""
    cumulative = weights.cumsum(dim=-1)
    total = cumulative[:, -1]
    points = (numbers * total).float().minimum(total.nextafter(torch.zeros(())))
    return torch.searchsorted(cumulative, points.unsqueeze(1), right=True)


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """The probabilities with everything outside the smallest set that holds `top_p` of the mass set to 0."""
    descending = probabilities.sort(dim=-1, descending=True).values
    last = (descending.cumsum(dim=-1) < top_p).sum(dim=-1, keepdim=True).clamp_(max=probabilities.shape[-1] - 1)
    return probabilities * (probabilities >= descending.gather(1, last))
