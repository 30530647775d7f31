"""Evaluation compares methods on the same problems at equal tokens; labels stay outside the search.

Intervals contain the true value about as often as stated, and pairing narrows them.
"""

import json
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sandbox import Sandbox
from search.protocols import Path as SearchPath
from search.testing import fakes
from server.answers.equality import EqualityPool
from training.evaluation.evaluate import (
    EvaluationConfig,
    Method,
    evaluate,
    paired_difference,
    share,
    summarise,
    write_report,
)
from training.problems.files import file_problems
from training.searcher import STEP_LIMITS, Searcher

GOOD, BAD = "\n# Multiply\nx = 6 * 7\n", "\n# Add\nx = 6 + 7\n"
SHOW = "\n# Print\nprint(x)\n"


class WeakPolicy:
    """Knows a right and a wrong first step, and prefers the wrong one two times out of three."""

    async def propose(self, path: SearchPath, n: int, *, seed: int) -> list[fakes.Candidate]:
        if not path.steps:
            return [fakes.step(GOOD.strip() if (seed + k) % 3 == 0 else BAD.strip()) for k in range(n)]
        if len(path.steps) == 1:
            return [fakes.last_step(SHOW.strip())] * n
        assert path.steps[-1].output is not None
        return [fakes.answer(path.steps[-1].output)] * n


class GreedyPolicy(WeakPolicy):
    async def propose(self, path: SearchPath, n: int, *, seed: int) -> list[fakes.Candidate]:
        return await super().propose(path, n, seed=1)


class Knowing:
    """A PPM that likes multiplication."""

    async def score(self, paths: Sequence[SearchPath]) -> Sequence[float]:
        return [0.9 if GOOD.strip() in path.steps[0].text else -0.9 for path in paths]


@pytest.fixture
async def searcher() -> AsyncIterator[Searcher]:
    async with EqualityPool() as equality, Sandbox(limits=STEP_LIMITS) as sandbox:
        yield Searcher(policy=WeakPolicy(), greedy=GreedyPolicy(), scorer=Knowing(), equality=equality, sandbox=sandbox)


def problem_file(folder: Path) -> Path:
    file = folder / "sums.json"
    file.write_text(json.dumps([{"index": k, "question": f"{k}: six times seven?", "answer": "42"} for k in range(2)]))
    return file


@pytest.mark.slow
async def test_a_good_ppm_beats_a_policy_that_is_mostly_wrong(searcher: Searcher, tmp_path: Path) -> None:
    problems = file_problems(problem_file(tmp_path))
    attempts = await evaluate(problems, EvaluationConfig(trajectories=4, candidates=4), searcher=searcher)
    shares = {row.method: row.share.mean for row in summarise(attempts)}
    assert shares[Method.MCTS] == 1.0
    assert shares[Method.GREEDY] == 0.0
    for ours, theirs in zip(attempts[Method.MCTS], attempts[Method.MAJORITY], strict=True):
        assert ours.problem_id == theirs.problem_id
        assert theirs.tokens >= ours.tokens

    report = tmp_path / "out" / "report.json"
    write_report(report, attempts)
    figures = json.loads(report.read_text())
    assert figures["all/mcts/share"] == 1.0
    assert figures["all/greedy/mcts_gain"] == 1.0
    assert all(not isinstance(value, dict | list) for value in figures.values())


def test_the_interval_surrounds_the_mean() -> None:
    interval = share([True] * 60 + [False] * 40)
    assert interval.mean == pytest.approx(0.6)
    # The normal approximation: 0.6 +- 1.96 sqrt(0.24 / 100).
    assert (interval.low, interval.high) == pytest.approx((0.504, 0.696), abs=0.02)


@pytest.mark.slow
def test_the_interval_covers_the_share_19_times_in_20() -> None:
    rng = random.Random(0)
    intervals = [share([rng.uniform(0, 1) < 0.7 for _ in range(120)], seed=draw) for draw in range(60)]
    assert sum(interval.low <= 0.7 <= interval.high for interval in intervals) >= 52


def test_pairing_sees_a_small_gain_on_the_same_problems() -> None:
    worse = [index % 2 == 0 for index in range(200)]
    better = [right or index % 20 == 1 for index, right in enumerate(worse)]
    gain = paired_difference(better, worse)
    assert gain.mean == pytest.approx(0.05)
    assert gain.low > 0
    assert share(better).low < share(worse).high


def test_the_same_numbers_give_the_same_interval() -> None:
    assert share([True, False, True]) == share([True, False, True])


def test_methods_that_answered_different_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="3 against 2"):
        paired_difference([True, False, True], [True, False])


def test_no_problems_are_refused() -> None:
    with pytest.raises(ValueError, match="no problems"):
        share([])
