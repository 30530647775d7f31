"""Agreement: labels synthetic problems by what independent solutions agree on, and leaves out those without agreement.

Of 10 solutions at least 3 must reach one answer, more than reach any other (rStar-Math, section 4, where GPT-4 makes
the solutions; here the bootstrap policy does). That answer becomes the label, whatever the source stated. Problems with
an exact label pass untouched.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from search import Budget, SearchConfig, Strategy
from training.problems.problem import Problem
from training.recipe import Agreement, Engine, Label, Search
from training.rollouts import seed_of
from training.searcher import open_searcher
from training.workers import Result, Results, run_work

logger = logging.getLogger(__name__)


class Answers(NamedTuple):
    """Equal answers to one problem."""

    answer: str
    solutions: int
    """How many solutions reach it."""


class Agreed(NamedTuple):
    """The problems with a label to train on, in their order, and the ids of those left out."""

    problems: list[Problem]
    left_out: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solve:
    """The work of solving one problem several times; see `training.workers.Work`."""

    policy: Path
    settings: Agreement
    search: Search
    engine: Engine
    seed: int

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[Problem], Awaitable[Result]]]:
        """Opened once in each process."""
        config = SearchConfig(strategy=Strategy.MAJORITY, max_depth=self.search.max_depth)
        budget = Budget(trajectories=self.settings.solutions)
        async with open_searcher(self.policy, None, engine=self.engine, settings=self.search) as searcher:

            async def solve(problem: Problem) -> Result:
                seed = seed_of(self.seed, "agreement", problem.id)
                found = await searcher.search(problem.question, config=config, budget=budget, seed=seed)
                return {"answers": [Answers(group.answer, group.votes) for group in found.answers]}

            yield solve


def agree(work: Solve, problems: Sequence[Problem], folder: Path) -> Agreed:
    """Solve the problems with an `agreed` label that `folder` has no solutions of, then decide on all.

    Raises `ValueError` where no problem is left.
    """
    doubtful = {problem.id: problem for problem in problems if problem.label is Label.AGREED}
    if doubtful:
        run_work(
            work,
            doubtful,
            folder,
            processes=work.engine.processes,
            concurrency=work.engine.concurrency,
            label="agreement",
        )
    results = Results(folder)
    found = {name: [Answers(*answers) for answers in results[name]["answers"]] for name in doubtful}
    agreed = decided(problems, found, work.settings)
    if not agreed.problems:
        raise ValueError(
            f"no training problem is left: for none of {len(doubtful)} with an agreed label do "
            f"{work.settings.at_least} of {work.settings.solutions} solutions agree. Add problems with exact labels, "
            "begin with a better policy, or lower problems.agreement.at_least"
        )
    logger.info("agreement: left out %d of %d problems with an agreed label", len(agreed.left_out), len(doubtful))
    return agreed


def decided(problems: Sequence[Problem], found: Mapping[str, Sequence[Answers]], settings: Agreement) -> Agreed:
    """Give each problem with an `agreed` label the answer that its solutions, found by id, agree on. Pure."""
    kept: list[Problem] = []
    left_out: list[str] = []
    for problem in problems:
        if problem.label is Label.EXACT:
            kept.append(problem)
        elif (answer := agreed_answer(found[problem.id], at_least=settings.at_least)) is not None:
            kept.append(replace(problem, answer=answer))
        else:
            left_out.append(problem.id)
    return Agreed(kept, left_out)


def agreed_answer(answers: Sequence[Answers], *, at_least: int) -> str | None:
    """The answer that at least so many solutions reach, and more than any other; None where there is none. Pure."""
    ranked = sorted(answers, key=lambda one: one.solutions, reverse=True)
    if not ranked or ranked[0].solutions < at_least:
        return None
    if len(ranked) > 1 and ranked[1].solutions == ranked[0].solutions:
        return None
    return ranked[0].answer
