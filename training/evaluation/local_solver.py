"""The solver in this process: every method on the models of one folder, through a `Searcher`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from search import Budget, SearchConfig, StepScorer, Strategy, Tree
from search import Path as SearchPath
from training.evaluation.solutions import GUIDED, Method, Recorder, Solution
from training.searcher import Searcher


class ConstantScorer:
    """A PPM that knows nothing."""

    async def score(self, paths: Sequence[SearchPath]) -> Sequence[float]:
        """Zero for every path."""
        return [0.0] * len(paths)


@dataclass(frozen=True, slots=True)
class LocalSolver:
    """Searches with `config`, whose strategy is that of the method."""

    searcher: Searcher
    config: SearchConfig = field(default_factory=SearchConfig)

    @property
    def methods(self) -> frozenset[Method]:
        """See `Solver.methods`."""
        return frozenset(Method) if self.searcher.scorer is not None else frozenset(Method) - GUIDED

    async def solve(self, question: str, method: Method, *, budget: Budget, seed: int) -> Solution:
        """See `Solver.solve`."""
        searcher = self.searcher
        scorer: StepScorer | None = ConstantScorer() if method is Method.MCTS_CONSTANT else None
        tree = Tree(question)
        recorder = Recorder(lambda: tree.tokens)
        began_s = searcher.now()
        result = await searcher.search(
            question,
            config=replace(self.config, strategy=_STRATEGIES[method], parallel_rollouts=1),
            budget=budget,
            seed=seed,
            policy=searcher.greedy if method is Method.GREEDY else None,
            scorer=scorer,
            tree=tree,
            on_event=recorder,
        )
        return Solution(
            answer=result.answer,
            confidence=result.confidence,
            moments=recorder.moments,
            stop_reason=result.stop_reason,
            trajectories=tree.trajectories,
            tokens=tree.tokens,
            code_steps=result.usage.code_steps,
            seconds=searcher.now() - began_s,
        )


_STRATEGIES = {
    Method.GREEDY: Strategy.GREEDY,
    Method.MAJORITY: Strategy.MAJORITY,
    Method.BEST_OF_N: Strategy.BEST_OF_N,
    Method.STEP_BEAM: Strategy.STEP_BEAM,
    Method.MCTS_CONSTANT: Strategy.MCTS,
    Method.MCTS: Strategy.MCTS,
}
