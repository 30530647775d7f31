"""Measuring: every method on every problem, a record a problem, by workers that go on where a killed run stopped.

`mcts` goes first and sets the price: majority, best of n and step beam generate at least as many tokens on that
problem. A token budget is overshot by less than one trajectory, or one round of step beam. A solver never sees a label:
answers are graded after the search has ended.
"""

import json
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from search import Budget, SearchConfig
from server.engines.model_folder import ModelFolder
from training.evaluation.attempts import Attempt, Attempts, answers_of, attempts_record, budgets, graded, read_attempts
from training.evaluation.local_solver import LocalSolver
from training.evaluation.solutions import GUIDED, Method, OpenSolver, Solver, SolverSource
from training.problems.grader import Grader
from training.problems.problem import Problem
from training.recipe import Engine, Search
from training.records import write_json
from training.searcher import open_searcher
from training.workers import Results, run_work

ABOUT = "about.json"

ORDER = (Method.MCTS, Method.MCTS_CONSTANT, Method.MAJORITY, Method.BEST_OF_N, Method.STEP_BEAM, Method.GREEDY)
"""The order of attempts at one problem."""

PRICED = frozenset({Method.MAJORITY, Method.BEST_OF_N, Method.STEP_BEAM})
"""Methods that generate as many tokens as `mcts` did."""


class MeasuredOtherwise(Exception):
    """The folder holds results of other models or settings; the message names the differences."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """How the models are measured."""

    methods: tuple[Method, ...] = (Method.MCTS, Method.MAJORITY, Method.GREEDY)
    trajectories: int = 64
    """Of one `mcts`; smaller budgets are read off its answers on the way."""
    candidates: int = 8
    seed: int = 0
    search: Search = field(default_factory=Search)
    split: str = "test"
    """Which problems they are, for the report."""
    tokens_of: Path | None = None
    """Folder of an earlier measurement whose `mcts` sets the price for all methods here, `mcts` included."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError(f"name at least one method of {', '.join(Method)}")
        if self.trajectories < 1 or self.candidates < 1:
            raise ValueError("trajectories and candidates must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """A policy with a reward model, and the rounds that made them (0: before the first)."""

    policy: Path
    ppm: Path | None = None
    policy_round: int | None = None
    ppm_round: int | None = None
    ppm_kind: Literal["ppm", "pqm", "orm"] = "ppm"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSource:
    """Models that are run in the worker process."""

    models: Models
    measurement: Measurement
    engine: Engine

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[OpenSolver]:
        """See `SolverSource.open`."""
        models, search = self.models, self.measurement.search
        config = SearchConfig(
            candidates=self.measurement.candidates, max_depth=search.max_depth, exploration=search.exploration
        )
        async with open_searcher(models.policy, models.ppm, engine=self.engine, settings=search) as searcher:
            yield OpenSolver(LocalSolver(searcher, config), searcher.equality)

    def about(self) -> dict[str, Any]:
        """See `SolverSource.about`."""
        models = self.models
        return {
            "policy": ModelFolder(models.policy).model_id,
            "policy_round": models.policy_round,
            "ppm": None if models.ppm is None else ModelFolder(models.ppm).model_id,
            "ppm_round": models.ppm_round,
            "ppm_kind": None if models.ppm is None else models.ppm_kind,
            "search": self.measurement.search.model_dump(),
            "precision": self.engine.precision,
        }


class Task(NamedTuple):
    """A problem, and the tokens that every method may generate; None: as many as `mcts` does."""

    problem: Problem
    tokens: int | None


@dataclass(frozen=True, slots=True)
class Measuring:
    """The work of `run_work`: an item is a problem, a result the record of its attempts."""

    source: SolverSource
    measurement: Measurement

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[Task], Awaitable[dict[str, Any]]]]:
        """See `Work.open`."""
        async with self.source.open() as opened:
            if missing := set(self.measurement.methods) - opened.solver.methods:
                raise ValueError(_cannot(missing, opened.solver.methods))
            yield partial(attempt_all, solver=opened.solver, grader=Grader(opened.equality), how=self.measurement)


def _cannot(missing: set[Method], known: frozenset[Method]) -> str:
    reason = "there is no PPM" if missing <= GUIDED else "a server does not offer them"
    return f"cannot measure {', '.join(sorted(missing))}: {reason}; choose from {', '.join(sorted(known))}"


def measure(
    problems: Sequence[Problem], models: Models, settings: Measurement, *, folder: Path, engine: Engine, label: str
) -> None:
    """Measure models in worker processes; `folder` gets a record for every problem that it has none of.

    Raises `MeasuredOtherwise`, `WorkFailed`.
    """
    source = LocalSource(models=models, measurement=settings, engine=engine)
    run_measurement(
        problems,
        Measuring(source, settings),
        folder,
        processes=engine.processes,
        concurrency=engine.concurrency,
        label=label,
    )


def run_measurement(
    problems: Sequence[Problem], work: Measuring, folder: Path, *, processes: int, concurrency: int, label: str
) -> None:
    """Claim the folder for these models and settings, and measure what it does not hold yet."""
    settings = work.measurement
    about = {
        **work.source.about(),
        "split": settings.split,
        "methods": sorted(settings.methods),
        "trajectories": settings.trajectories,
        "candidates": settings.candidates,
        "seed": settings.seed,
        "equal_tokens": settings.tokens_of is not None,
    }
    if twice := [name for name, times in Counter(problem.id for problem in problems).items() if times > 1]:
        raise ValueError(f"problems need names of their own; {len(twice)} are named twice, such as {twice[0]}")
    _claim(folder, about)
    prices = {} if settings.tokens_of is None else mcts_tokens(settings.tokens_of)
    items = {problem.id: Task(problem, prices.get(problem.id)) for problem in problems}
    if settings.tokens_of is not None and (unpriced := [key for key, task in items.items() if task.tokens is None]):
        raise ValueError(f"{settings.tokens_of} has no mcts of {len(unpriced)} problems, such as {unpriced[0]}")
    run_work(work, items, folder, processes=processes, concurrency=concurrency, label=label)


def _claim(folder: Path, about: Mapping[str, Any]) -> None:
    file = folder / ABOUT
    now = json.loads(json.dumps(about))
    before = json.loads(file.read_text()) if file.exists() else now
    changes = [f"{key} {before.get(key)} -> {now.get(key)}" for key in now if before.get(key) != now.get(key)]
    if changes:
        raise MeasuredOtherwise(f"{folder} was measured otherwise: {'; '.join(changes)}; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, now)


def mcts_tokens(folder: Path) -> dict[str, int]:
    """What `mcts` generated for each problem of an earlier measurement."""
    attempts = read_measured(folder)
    return {problem: done[Method.MCTS].tokens for problem, done in attempts.items() if Method.MCTS in done}


def read_measured(folder: Path) -> dict[str, Attempts]:
    """The attempts in a folder by problem, in the order of the problems' names."""
    results = Results(folder)
    return {key: read_attempts(results[key]) for key in sorted(results)}


async def attempt_all(task: Task, *, solver: Solver, grader: Grader, how: Measurement) -> dict[str, Any]:
    """Every method on one problem; the record."""
    attempts: list[Attempt] = []
    price = task.tokens
    for method in (method for method in ORDER if method in how.methods):
        attempt = await _attempt(task, method, solver=solver, grader=grader, how=how, price=price)
        attempts.append(attempt)
        if method is Method.MCTS and price is None:
            price = max(1, attempt.tokens)
    return attempts_record(task.problem.id, task.problem.group, attempts)


async def _attempt(
    task: Task, method: Method, *, solver: Solver, grader: Grader, how: Measurement, price: int | None
) -> Attempt:
    problem = task.problem
    is_priced = price is not None and (method in PRICED or task.tokens is not None)
    budget = Budget(tokens=price) if is_priced else Budget(trajectories=how.trajectories)
    if method is Method.GREEDY:
        budget = Budget(trajectories=1)
    solution = await solver.solve(problem.question, method, budget=budget, seed=how.seed)
    right = [answer for answer in answers_of(solution) if await grader.is_right(problem, answer)]
    return graded(
        solution,
        problem_id=problem.id,
        group=problem.group,
        method=method,
        right=frozenset(right),
        at=budgets(how.trajectories),
    )
