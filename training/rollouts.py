"""Rollouts: searches labelled problems with terminal-guided values, for the PPM and the next policy to learn from.

Writes one searched tree a line and can be stopped at any time: a later run goes on with the problems that are missing.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from search import Budget, SearchConfig, Tree, Values, load, save
from training.problems.families import Family
from training.problems.problem import Problem
from training.records import appending, read_records
from training.searcher import Searcher
from training.workers import run_concurrently


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """How much to search."""

    trajectories: int = 8
    """Rollouts per problem (the paper's first round)."""
    candidates: int = 5
    """Candidates per step (the paper's first round)."""
    concurrency: int = 48
    """Searches at once: together they keep the policy's batch full."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LabelJudge:
    """Knows the label: +1 for a right answer, -1 for a wrong one."""

    family: Family
    problem: Problem

    async def value(self, answer: str) -> float:
        """See `search.Judge`."""
        return 1.0 if self.family.is_right(answer, self.problem) else -1.0


async def make_rollouts(
    family: Family, problems: Iterable[Problem], config: RolloutConfig, *, searcher: Searcher, file: Path
) -> None:
    """Search every problem that `file` does not hold yet, and append its tree."""
    search_config = SearchConfig(candidates=config.candidates, values=Values.TERMINAL_GUIDED)

    with appending(file) as append:
        done = {problem_id for problem_id, _ in read_rollouts(file)}

        async def one(problem: Problem) -> None:
            result = await searcher.search(
                problem.question,
                config=search_config,
                budget=Budget(trajectories=config.trajectories),
                seed=config.seed,
                judge=LabelJudge(family, problem),
            )
            append({"problem": problem.id, "tree": save(result.tree)})

        missing = (problem for problem in problems if problem.id not in done)
        await run_concurrently(missing, one, concurrency=config.concurrency)


def read_rollouts(file: Path) -> Iterator[tuple[str, Tree]]:
    """Problem ids and trees; skips a last line that was cut off by a crash."""
    for record in read_records(file):
        yield record["problem"], load(record["tree"])
