"""Evaluation: the same problems solved by several methods at equal generated tokens, with paired 95 % intervals.

`mcts` sets the price: each problem's `majority` may generate as many tokens as `mcts` did on that problem, and
`mcts_constant` is the same search with a PPM that calls every step equally good. The label is read only after a
search has ended; no method ever sees it. Intervals come from the bootstrap over problems. The report is a table for
people and a flat JSON object for programs.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from search import Budget, SearchConfig, SearchResult, Strategy
from search import Path as SearchPath
from training.problems.grader import Grader
from training.problems.problem import Problem
from training.searcher import Searcher
from training.workers import run_concurrently

ALL = "all"
"""Stands for all groups of problems together."""

_RESAMPLES = 10_000


class Method(StrEnum):
    """The methods that are compared."""

    GREEDY = "greedy"
    """One trajectory, the likeliest token each time: the paper's pass@1."""
    MAJORITY = "majority"
    """Independent sampled trajectories and a plain vote, at the tokens of `mcts`."""
    MCTS_CONSTANT = "mcts_constant"
    """The search of `mcts` with a constant PPM."""
    MCTS = "mcts"
    """PPM-guided search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """How much each problem may cost."""

    trajectories: int = 16
    candidates: int = 8
    seed: int = 0
    concurrency: int = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One method on one problem."""

    problem_id: str
    group: str
    is_right: bool
    tokens: int
    any_right: bool
    """Whether any trajectory of the search was right, as for a perfect choice of the answer."""


Attempts = Mapping[Method, Sequence[Attempt]]


class ConstantScorer:
    """A PPM that knows nothing."""

    async def score(self, paths: Sequence[SearchPath]) -> Sequence[float]:
        """Zero for every path."""
        return [0.0] * len(paths)


async def evaluate(problems: Sequence[Problem], config: EvaluationConfig, *, searcher: Searcher) -> Attempts:
    """Every method on every problem, in the order of `problems`."""
    attempts: dict[Method, dict[str, Attempt]] = {method: {} for method in Method}
    grader = Grader(searcher.equality)

    async def one(problem: Problem) -> None:
        tokens = 1
        for method in (Method.MCTS, Method.MAJORITY, Method.MCTS_CONSTANT, Method.GREEDY):
            result = await _attempt(problem, method, config, searcher=searcher, tokens=tokens)
            attempt = await _graded(problem, result, grader)
            attempts[method][problem.id] = attempt
            if method is Method.MCTS:
                tokens = max(1, attempt.tokens)

    await run_concurrently(problems, one, concurrency=config.concurrency)
    return {method: [done[problem.id] for problem in problems] for method, done in attempts.items()}


async def _attempt(
    problem: Problem, method: Method, config: EvaluationConfig, *, searcher: Searcher, tokens: int
) -> SearchResult:
    mcts = SearchConfig(candidates=config.candidates)
    whole = Budget(trajectories=config.trajectories)
    match method:
        case Method.GREEDY:
            return await searcher.search(
                problem.question,
                config=SearchConfig(strategy=Strategy.GREEDY),
                budget=Budget(trajectories=1),
                seed=config.seed,
                policy=searcher.greedy,
            )
        case Method.MAJORITY:
            return await searcher.search(
                problem.question,
                config=SearchConfig(strategy=Strategy.MAJORITY),
                budget=Budget(tokens=tokens),
                seed=config.seed,
            )
        case Method.MCTS_CONSTANT:
            return await searcher.search(
                problem.question, config=mcts, budget=whole, seed=config.seed, scorer=ConstantScorer()
            )
        case Method.MCTS:
            return await searcher.search(problem.question, config=mcts, budget=whole, seed=config.seed)


async def _graded(problem: Problem, result: SearchResult, grader: Grader) -> Attempt:
    verdicts = [await grader.is_right(problem, group.answer) for group in result.answers]
    return Attempt(
        problem_id=problem.id,
        group=problem.group,
        is_right=bool(verdicts) and verdicts[0],
        tokens=result.tree.tokens,
        any_right=any(verdicts),
    )


def merged(parts: Sequence[Attempts]) -> Attempts:
    """The attempts of several evaluations as one."""
    return {method: [attempt for part in parts for attempt in part[method]] for method in Method}


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval."""

    mean: float
    low: float
    high: float


def share(is_right: Sequence[bool], *, seed: int = 0) -> Interval:
    """The share of problems solved."""
    return _bootstrap(np.asarray(is_right, dtype=float), seed)


def paired_difference(a: Sequence[bool], b: Sequence[bool], *, seed: int = 0) -> Interval:
    """How much larger a's share is than b's, when both answered the same problems in the same order."""
    if len(a) != len(b):
        raise ValueError(f"paired methods must answer the same problems: {len(a)} against {len(b)}")
    return _bootstrap(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), seed)


def _bootstrap(values: np.ndarray, seed: int) -> Interval:
    if not len(values):
        raise ValueError("no problems to average over")
    rng = np.random.default_rng(seed)
    means = np.array([rng.choice(values, len(values)).mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method over one group of problems."""

    method: Method
    problems: int
    share: Interval
    gain: Interval | None
    """`mcts` minus this method, paired; None for `mcts` itself."""
    any_right: float
    tokens: float
    """Mean per problem."""


def summarise(attempts: Attempts, group: str = ALL) -> list[Row]:
    """A row a method, over all problems or one group."""
    chosen = {
        method: [attempt for attempt in done if group in (ALL, attempt.group)] for method, done in attempts.items()
    }
    search_right = [attempt.is_right for attempt in chosen[Method.MCTS]]
    rows: list[Row] = []
    for method, done in chosen.items():
        right = [attempt.is_right for attempt in done]
        rows.append(
            Row(
                method=method,
                problems=len(done),
                share=share(right),
                gain=None if method is Method.MCTS else paired_difference(search_right, right),
                any_right=sum(attempt.any_right for attempt in done) / len(done),
                tokens=sum(attempt.tokens for attempt in done) / len(done),
            )
        )
    return rows


def summarise_groups(attempts: Attempts) -> dict[str, list[Row]]:
    """Rows by group of problems."""
    groups = dict.fromkeys(attempt.group for attempt in attempts[Method.MCTS])
    return {group: summarise(attempts, group) for group in groups}


def print_report(attempts: Attempts) -> None:
    """A table of shares by group, then the paired gains over all problems."""
    table = Table("problems", "count", *(str(method) for method in Method), title="share solved, in per cent")
    total = summarise(attempts)
    for group, rows in {**summarise_groups(attempts), ALL: total}.items():
        shares = {row.method: f"{100 * row.share.mean:.0f}" for row in rows}
        table.add_row(group, str(rows[0].problems), *(shares[method] for method in Method))
    console = Console()
    console.print(table)
    for row in total:
        gain = "" if row.gain is None else f"; mcts gains {_percent(row.gain)} on it"
        console.print(
            f"{row.method}: {_percent(row.share)}, {row.tokens:.0f} tokens a problem, "
            f"right among its trajectories {100 * row.any_right:.1f}{gain}",
            highlight=False,
        )


def write_report(path: Path, attempts: Attempts) -> None:
    """Flat names such as `gcd/mcts/share`, shares from 0 to 1, with machine and versions."""
    figures: dict[str, object] = {}
    for group, rows in {**summarise_groups(attempts), ALL: summarise(attempts)}.items():
        figures[f"{group}/problems"] = rows[0].problems
        for row in rows:
            figures |= {f"{group}/{row.method}/{name}": value for name, value in _figures(row).items()}
    figures["machine"] = f"{platform.machine()} {platform.system()}"
    figures |= {package: version(package) for package in ("torch", "reasoning-gym")}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(figures, indent=2) + "\n")


def _figures(row: Row) -> dict[str, float]:
    figures = {"share": row.share.mean, "low": row.share.low, "high": row.share.high}
    if row.gain is not None:
        figures |= {"mcts_gain": row.gain.mean, "mcts_gain_low": row.gain.low, "mcts_gain_high": row.gain.high}
    return figures | {"any_right": row.any_right, "tokens": row.tokens}


def _percent(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
