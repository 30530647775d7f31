# pyright: basic
"""Sampling: the distribution of the sampled tokens."""

import math
import random
from itertools import product

import pytest
import torch

from server.engines.protocols import Sampling
from server.engines.torch.sampling import choose

PROBABILITIES = [0.05, 0.4, 0.02, 0.3, 0.2, 0.03]
LOGITS = torch.tensor([PROBABILITIES]).log()


def frequencies(*, temperature: float = 1.0, top_p: float = 1.0, draws: int = 20_000) -> list[float]:
    rng = random.Random(0)
    numbers = [[rng.random(), rng.random()] for _ in range(draws)]
    tokens = choose(LOGITS.expand(draws, -1), numbers, [Sampling(temperature=temperature, top_p=top_p)] * draws).tokens
    return [tokens.count(token) / draws for token in range(len(PROBABILITIES))]


def test_tokens_are_drawn_by_probability() -> None:
    assert frequencies() == pytest.approx(PROBABILITIES, abs=0.015)


def test_temperature_sharpens_the_distribution() -> None:
    squares = [p * p for p in PROBABILITIES]
    assert frequencies(temperature=0.5) == pytest.approx([p / sum(squares) for p in squares], abs=0.015)


@pytest.mark.parametrize(
    ("top_p", "nucleus"), [(0.01, {1}), (0.4, {1}), (0.5, {1, 3}), (0.85, {1, 3, 4}), (0.93, {0, 1, 3, 4})]
)
def test_only_the_nucleus_is_drawn_in_proportion(top_p: float, nucleus: set[int]) -> None:
    mass = sum(PROBABILITIES[token] for token in nucleus)
    expected = [p / mass if token in nucleus else 0 for token, p in enumerate(PROBABILITIES)]
    assert frequencies(top_p=top_p) == pytest.approx(expected, abs=0.015)


def test_temperature_zero_takes_the_likeliest() -> None:
    assert frequencies(temperature=0, top_p=0.5, draws=10) == [0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("number", [0.0, 1 - 2**-53])
def test_extreme_numbers_never_draw_an_impossible_token(number: float) -> None:
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 2.0, -math.inf]])
    (token,) = choose(logits, [[number, number]], [Sampling(top_p=0.9)]).tokens
    assert token in {1, 3}


def test_log_probabilities_are_those_at_temperature_one() -> None:
    choice = choose(LOGITS, [[0.2, 0.5]], [Sampling(temperature=0.3, top_p=0.5)])
    assert math.exp(choice.logprobs[0]) == pytest.approx(PROBABILITIES[choice.tokens[0]])


def test_each_row_keeps_its_own_sampling() -> None:
    rng = random.Random(1)
    pairs = product((0.0, 0.5, 1.0, 2.0), (0.4, 0.85, 1.0))
    samplings = [Sampling(temperature=temperature, top_p=top_p) for temperature, top_p in pairs] * 20
    numbers = [[rng.random(), rng.random()] for _ in samplings]
    together = choose(LOGITS.expand(len(samplings), -1), numbers, samplings)
    alone = [choose(LOGITS, [pair], [sampling]) for pair, sampling in zip(numbers, samplings, strict=True)]
    assert together.tokens == [choice.tokens[0] for choice in alone]
    assert len(set(together.tokens)) == len(PROBABILITIES)
