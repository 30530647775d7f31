# pyright: basic
"""Sampling: the sequences of a request while they are written, and how their next tokens are sampled from logits.

A sequence's token depends on its own logits, numbers and `Sampling` alone, never on the rows beside it.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from server.engines.policy import Completion, CompletionRequest
from server.engines.protocols import Sampling
from server.engines.torch.loop import Call, EngineLoop

NUMBERS_PER_TOKEN = 2
"""Uniform numbers a row needs for one token: a draw, and the second one that a draw outside the nucleus needs."""


@dataclass(slots=True, eq=False)
class Sample:
    """One sequence of a request."""

    request: CompletionRequest
    rng: random.Random
    token_ids: list[int] = field(default_factory=list[int])
    logprob: float = 0.0
    is_finished: bool = False


@dataclass(kw_only=True, eq=False)
class Generation(Call[list[Completion]]):
    """One call of `Completer.complete`."""

    request: CompletionRequest
    samples: Sequence[Sample] = field(init=False)

    def __post_init__(self) -> None:
        # Seeded by a string: Random hashes it, so that neighbouring seeds and samples share nothing.
        rngs = (random.Random(f"{self.request.seed}/{k}") for k in range(self.request.n))
        self.samples = [Sample(self.request, rng) for rng in rngs]


class GenerationLoop(EngineLoop[Generation]):
    """The common base of loops that write sequences."""

    def drop_abandoned(self) -> set[Generation]:
        """See `EngineLoop`. Their tokens are counted."""
        abandoned = super().drop_abandoned()
        self.counters.tokens_aborted += sum(len(sample.token_ids) for call in abandoned for sample in call.samples)
        return abandoned

    def write(self, samples: Sequence[Sample], logits_B_V: Tensor) -> None:
        """Sample one more token for each, from the logits after its last one."""
        numbers = [[sample.rng.random() for _ in range(NUMBERS_PER_TOKEN)] for sample in samples]
        choice = choose(logits_B_V, numbers, [sample.request.sampling for sample in samples])
        self.counters.tokens_generated += len(samples)
        for sample, token, logprob in zip(samples, choice.tokens, choice.logprobs, strict=True):
            sample.token_ids.append(token)
            sample.logprob += logprob
            request = sample.request
            sample.is_finished = token in request.stop_token_ids or len(sample.token_ids) >= request.max_tokens

    def answer_finished(self, calls: Iterable[Generation]) -> None:
        """Answer those calls whose samples are all finished."""
        for call in dict.fromkeys(calls):
            if all(sample.is_finished for sample in call.samples):
                self.held.discard(call)
                completions = (Completion(token_ids=tuple(one.token_ids), logprob=one.logprob) for one in call.samples)
                call.answer(list(completions))


class Choice(NamedTuple):
    """The sampled token of each row."""

    tokens: list[int]
    logprobs: list[float]
    """Natural log-probabilities at temperature 1, before any truncation."""


def choose(logits_B_V: Tensor, numbers: Sequence[Sequence[float]], samplings: Sequence[Sampling]) -> Choice:
    """Nucleus sampling, row by row; the likeliest token where a row's temperature is 0, for any numbers.

    The first draw is from the whole distribution. A draw outside the nucleus is replaced by one from the nucleus, which
    gives every token of it the mass p + (1 - mass of the nucleus)·p / mass of the nucleus, as it should be, and spares
    sorting the rows (nearly all) whose first draw is good. Tokens as likely as the nucleus's last one belong to it.
    """
    warm = [sampling.temperature > 0 for sampling in samplings]
    if not any(warm):
        tokens = logits_B_V.argmax(dim=-1, keepdim=True)
    else:
        tokens = _sample(logits_B_V, torch.tensor(numbers, dtype=torch.float64).T, samplings)
        if not all(warm):
            likeliest = logits_B_V.argmax(dim=-1, keepdim=True)
            tokens = torch.where(torch.tensor(warm).unsqueeze(1), tokens, likeliest)
    logprobs = logits_B_V.gather(1, tokens) - logits_B_V.logsumexp(dim=-1, keepdim=True)
    return Choice(tokens.squeeze(1).tolist(), logprobs.squeeze(1).tolist())


def _sample(logits_B_V: Tensor, numbers_2_B: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """A token for every row; rows of temperature 0 get some token."""
    temperatures_B = torch.tensor([sampling.temperature or 1.0 for sampling in samplings])
    probabilities = torch.softmax(logits_B_V / temperatures_B.unsqueeze(1), dim=-1)
    tokens = _draw(probabilities, numbers_2_B[0])
    if any(sampling.top_p < 1 for sampling in samplings):
        top_ps_B = torch.tensor([sampling.top_p for sampling in samplings])
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
