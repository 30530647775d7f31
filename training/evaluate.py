"""Evaluation: the same problems solved by several methods at equal generated tokens, with paired 95 % intervals.

`mcts` sets the price: each problem's `majority` may generate as many tokens as `mcts` did on that problem, and
`mcts_constant` is the same search with a PPM that calls every step equally good. The label is read only after a
search has ended; no method ever sees it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from search import Budget, SearchConfig, SearchResult, Strategy
from search.protocols import Path
from training.problem_sets import LabelledProblem
from training.statistics import Interval, paired_difference, share
from training.workbench import Workbench, run_concurrently


class Method(StrEnum):
    """What is compared."""

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
    answer: str | None
    is_right: bool
    tokens: int
    trajectories: int
    confidence: float
    any_right: bool
    """Whether some trajectory of the search was right: what a perfect choice among them would give."""


Attempts = Mapping[Method, Sequence[Attempt]]


class ConstantScorer:
    """A PPM that knows nothing."""

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """Zero for every path."""
        return [0.0] * len(paths)


async def evaluate(problems: Sequence[LabelledProblem], config: EvaluationConfig, *, workbench: Workbench) -> Attempts:
    """Every method on every problem, in the order of `problems`."""
    attempts: dict[Method, dict[str, Attempt]] = {method: {} for method in Method}

    async def one(problem: LabelledProblem) -> None:
        tokens = 1
        for method in (Method.MCTS, Method.MAJORITY, Method.MCTS_CONSTANT, Method.GREEDY):
            result = await _attempt(problem, method, config, workbench=workbench, tokens=tokens)
            attempt = await _graded(problem, result)
            attempts[method][problem.id] = attempt
            if method is Method.MCTS:
                tokens = max(1, attempt.tokens)

    await run_concurrently(problems, one, concurrency=config.concurrency)
    return {method: [done[problem.id] for problem in problems] for method, done in attempts.items()}


async def _attempt(
    problem: LabelledProblem, method: Method, config: EvaluationConfig, *, workbench: Workbench, tokens: int
) -> SearchResult:
    mcts = SearchConfig(candidates=config.candidates)
    whole = Budget(trajectories=config.trajectories)
    match method:
        case Method.GREEDY:
            return await workbench.search(
                problem.question,
                config=SearchConfig(strategy=Strategy.GREEDY),
                budget=Budget(trajectories=1),
                seed=config.seed,
                policy=workbench.greedy,
            )
        case Method.MAJORITY:
            return await workbench.search(
                problem.question,
                config=SearchConfig(strategy=Strategy.MAJORITY),
                budget=Budget(tokens=tokens),
                seed=config.seed,
            )
        case Method.MCTS_CONSTANT:
            return await workbench.search(
                problem.question, config=mcts, budget=whole, seed=config.seed, scorer=ConstantScorer()
            )
        case Method.MCTS:
            return await workbench.search(problem.question, config=mcts, budget=whole, seed=config.seed)


async def _graded(problem: LabelledProblem, result: SearchResult) -> Attempt:
    verdicts = [await problem.is_right(group.answer) for group in result.answers]
    return Attempt(
        problem_id=problem.id,
        group=problem.group,
        answer=result.answer,
        is_right=bool(verdicts) and verdicts[0],
        tokens=result.tree.tokens,
        trajectories=result.usage.trajectories,
        confidence=result.confidence,
        any_right=any(verdicts),
    )


def merged(parts: Sequence[Attempts]) -> Attempts:
    """The attempts of several evaluations as one."""
    return {method: [attempt for part in parts for attempt in part[method]] for method in Method}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method over one group of problems."""

    method: Method
    share: Interval
    gain: Interval | None
    """`mcts` minus this method, paired; None for `mcts` itself."""
    any_right: float
    tokens: float
    """Mean per problem."""


def summarise(attempts: Attempts, *, group: str | None = None) -> list[Row]:
    """A row a method, over all problems or one group."""
    chosen = {
        method: [attempt for attempt in done if group in (None, attempt.group)] for method, done in attempts.items()
    }
    search_right = [attempt.is_right for attempt in chosen[Method.MCTS]]
    rows: list[Row] = []
    for method, done in chosen.items():
        right = [attempt.is_right for attempt in done]
        rows.append(
            Row(
                method=method,
                share=share(right),
                gain=None if method is Method.MCTS else paired_difference(search_right, right),
                any_right=sum(attempt.any_right for attempt in done) / len(done),
                tokens=sum(attempt.tokens for attempt in done) / len(done),
            )
        )
    return rows
