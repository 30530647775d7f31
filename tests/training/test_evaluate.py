"""Evaluation compares methods on the same problems at equal tokens, and labels stay outside the search."""

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from sandbox import Sandbox
from search import fakes
from search.protocols import Path as SearchPath
from server.answers.equality import EqualityPool
from training.evaluate import EvaluationConfig, Method, evaluate, summarise
from training.problem_sets import ProblemFileError, family_problems, file_problems
from training.report import write_report
from training.workbench import STEP_LIMITS, Workbench

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
async def workbench() -> AsyncIterator[Workbench]:
    async with EqualityPool() as equality, Sandbox(limits=STEP_LIMITS) as sandbox:
        yield Workbench(
            policy=WeakPolicy(), greedy=GreedyPolicy(), scorer=Knowing(), equality=equality, sandbox=sandbox
        )


def problem_file(folder: Path) -> Path:
    file = folder / "sums.json"
    file.write_text(json.dumps([{"index": k, "question": f"{k}: six times seven?", "answer": "42"} for k in range(2)]))
    return file


async def test_search_with_a_knowing_ppm_beats_a_policy_that_is_mostly_wrong(
    workbench: Workbench, tmp_path: Path
) -> None:
    problems = file_problems(problem_file(tmp_path), workbench.equality)
    attempts = await evaluate(problems, EvaluationConfig(trajectories=4, candidates=4), workbench=workbench)
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


async def test_a_file_that_holds_no_problems_is_refused_by_name(tmp_path: Path) -> None:
    for content in ("not json", "{}", '[{"question": "what?"}]', '["text"]'):
        file = tmp_path / "bad.json"
        file.write_text(content)
        async with EqualityPool() as equality:
            with pytest.raises(ProblemFileError, match=r"bad\.json"):
                file_problems(file, equality)


def test_family_problems_are_distinct() -> None:
    questions = [problem.question for problem in family_problems("prime_factorization", 60)]
    assert len(set(questions)) == 60
