"""A run: what one call of `search` carries from rollout to rollout, and the result it ends in.

Everything here but the tree can be made again from the tree and the caller's arguments.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from search.answers import AnswerGroup, Ballot, Standing, ballots, count_votes, is_decided
from search.budget import Budget
from search.config import SearchConfig, Strategy
from search.equivalence import AnswerClasses
from search.events import AnswerChanged, Event, NodeAdded, OnEvent, SearchStarted, TrajectoryFinished
from search.expansion import Expander
from search.metering import Meter, PhaseSeconds, Usage
from search.outcomes import StopReason
from search.parts import Parts
from search.tree import NodeId, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found, and what it took."""

    tree: Tree
    answers: tuple[AnswerGroup, ...]
    """Distinct answers, best first."""
    answer: str | None
    """The best; None where no trajectory states one."""
    confidence: float
    """That `answer` is right, in [0, 1); see `search.answers`."""
    best_path: tuple[NodeId, ...]
    """The steps of the best-scored trajectory that gives `answer`, from the first step down; empty without one."""
    stop_reason: StopReason
    usage: Usage
    phase_seconds: PhaseSeconds


class Run:
    """One search of one tree."""

    def __init__(
        self, tree: Tree, *, parts: Parts, config: SearchConfig, budget: Budget, seed: int, now: Callable[[], float]
    ) -> None:
        self.tree = tree
        self.config = config
        self.budget = budget
        self._meter = Meter(now)
        self._parts = self._meter.wrap(parts)
        self._seed = seed
        self._now = now
        self._started_s = now()
        self._cached_trajectories = tree.trajectories
        self._classes = AnswerClasses(parts.equality)
        self._standing = Standing()
        self._on_event: OnEvent = _ignore

    async def begin(self, on_event: OnEvent | None) -> None:
        """Announce the search, and the answer that the tree holds already."""
        self._on_event = on_event or _ignore
        self._emit(
            SearchStarted(
                problem=self.tree.problem,
                strategy=self.config.strategy,
                cached_trajectories=self._cached_trajectories,
            )
        )
        await self._count()

    def expander(self, tree: Tree) -> Expander:
        """An expander for `tree`, which may be a branch to be grafted later."""
        return Expander(tree, parts=self._parts, config=self.config, seed=self._seed)

    def stop_reason(self) -> StopReason | None:
        """Why not to begin another rollout; None: go on."""
        spent = self.budget.stop_reason(
            trajectories=self.tree.trajectories, tokens=self.tree.tokens, seconds=self.elapsed_s()
        )
        if spent is not None:
            return spent
        return StopReason.CONVERGED if self._is_decided() else None

    def elapsed_s(self) -> float:
        """Since the search began."""
        return self._now() - self._started_s

    def report_added(self, node_ids: Iterable[NodeId]) -> None:
        """Tell of new nodes."""
        for node_id in node_ids:
            node = self.tree[node_id]
            assert node.parent is not None
            assert node.step is not None
            self._emit(
                NodeAdded(
                    node_id=node.id,
                    parent=node.parent,
                    depth=node.depth,
                    outcome=node.outcome,
                    score=node.score,
                    text=node.step.text,
                )
            )

    async def report_trajectory(self, node_id: NodeId) -> None:
        """Tell of a trajectory that was backed up, and count the votes again."""
        node = self.tree[node_id]
        index = self.tree.trajectories - 1
        self._emit(TrajectoryFinished(index=index, node_id=node_id, answer=node.answer, score=node.score))
        await self._count()

    def result(self, stop_reason: StopReason) -> SearchResult:
        """The result as of now; asks nobody anything, so it is there at once after a deadline too."""
        standing = self._count_known(ballots(self.tree))
        groups = standing.groups
        best = self.tree.lineage(groups[0].node_ids[0])[1:] if groups else []
        return SearchResult(
            tree=self.tree,
            answers=groups,
            answer=standing.answer,
            confidence=standing.confidence,
            best_path=tuple(node.id for node in best),
            stop_reason=stop_reason,
            usage=self._meter.usage(trajectories=self.tree.trajectories, cached_trajectories=self._cached_trajectories),
            phase_seconds=self._meter.phase_seconds(),
        )

    async def _count(self) -> None:
        cast = ballots(self.tree)
        await self._classes.learn([ballot.answer for ballot in cast])
        before, self._standing = self._standing, self._count_known(cast)
        answer, confidence = self._standing.answer, self._standing.confidence
        if answer is not None and (answer, confidence) != (before.answer, before.confidence):
            self._emit(AnswerChanged(answer=answer, confidence=confidence))

    def _count_known(self, cast: list[Ballot]) -> Standing:
        return count_votes(
            cast,
            self._classes.classes([ballot.answer for ballot in cast]).class_of,
            failures=self.tree.trajectories - len(cast),
            selection=self.config.answer_selection,
            top_k=self.config.top_k,
        )

    def _is_decided(self) -> bool:
        left = self.budget.trajectories_left(self.tree.trajectories)
        if not self.config.stop_when_decided or left is None:
            return False
        answers = [ballot.answer for ballot in ballots(self.tree)]
        return is_decided(
            self._standing,
            selection=self.config.answer_selection,
            votes_left=left * (self.config.candidates if self.config.strategy is Strategy.MCTS else 1),
            top_k=self.config.top_k,
            has_unknown=self._classes.classes(answers).has_unknown,
        )

    def _emit(self, event: Event) -> None:
        self._on_event(event)


def _ignore(_: Event) -> None:
    pass
