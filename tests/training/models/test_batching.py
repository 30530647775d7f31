"""A plan holds every example once per epoch, in batches within the limit, and is the same each time."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.models.batching import WINDOW, BatchLimit, Size, planned_batches

SIZES = st.lists(
    st.builds(
        Size,
        rows=st.integers(1, 4),
        longest=st.integers(1, 90),
        prompt=st.integers(1, 30),
        count=st.integers(1, 6),
    ),
    min_size=1,
    max_size=60,
)
LIMITS = st.one_of(
    st.builds(BatchLimit, tokens=st.integers(1, 400)), st.builds(BatchLimit, examples=st.integers(1, 12))
)


def tokens(sizes: Sequence[Size], batch: Sequence[int]) -> int:
    return sum(sizes[index].rows for index in batch) * max(sizes[index].longest for index in batch)


@given(SIZES, LIMITS, st.integers(1, 3), st.integers(0, 5))
def test_each_epoch_holds_each_example_once(sizes: list[Size], limit: BatchLimit, epochs: int, seed: int) -> None:
    plan = planned_batches(sizes, limit, epochs=epochs, seed=seed)
    assert Counter(index for batch in plan for index in batch) == dict.fromkeys(range(len(sizes)), epochs)
    first = planned_batches(sizes, limit, epochs=1, seed=seed)
    assert plan[: len(first)] == first


@given(SIZES, LIMITS)
def test_a_batch_is_within_the_limit_or_one_example(sizes: list[Size], limit: BatchLimit) -> None:
    for batch in planned_batches(sizes, limit, epochs=1, seed=0):
        if len(batch) > 1 and limit.tokens:
            assert tokens(sizes, batch) <= limit.tokens
        elif len(batch) > 1:
            assert sum(sizes[index].count for index in batch) <= (limit.examples or 0)


@pytest.mark.parametrize("limit", [BatchLimit(tokens=200), BatchLimit(examples=4)])
def test_a_plan_depends_on_the_seed_alone(limit: BatchLimit) -> None:
    sizes = [Size(rows=1, longest=10 + index % 7, prompt=5) for index in range(50)]
    once, again, other = (planned_batches(sizes, limit, epochs=2, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_a_part_of_an_epoch_holds_a_part_of_the_batches() -> None:
    sizes = [Size(rows=1, longest=10, prompt=5)] * 100
    limit = BatchLimit(examples=5)
    assert len(planned_batches(sizes, limit, epochs=0.25, seed=0)) == 5
    assert len(planned_batches(sizes, limit, epochs=1.5, seed=0)) == 30


def test_a_tiny_part_of_an_epoch_is_still_one_batch() -> None:
    sizes = [Size(rows=1, longest=10, prompt=5)] * 10
    assert len(planned_batches(sizes, BatchLimit(examples=5), epochs=0.001, seed=0)) == 1


def test_batches_by_tokens_hold_prompts_of_like_lengths() -> None:
    sizes = [Size(rows=1, longest=60, prompt=1 + index % 50) for index in range(WINDOW)]
    plan = planned_batches(sizes, BatchLimit(tokens=600), epochs=1, seed=0)
    spreads = [max(found) - min(found) for found in ([sizes[i].prompt for i in batch] for batch in plan)]
    assert max(spreads) <= 1
    assert [sizes[batch[0]].prompt for batch in plan] != sorted(sizes[batch[0]].prompt for batch in plan)
