"""A run: the state of one call of `search` from rollout to rollout, and the result it ends in.

Everything here but the tree can be made again from the tree and the caller's arguments.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from search.answers import AnswerGroup, Standing, Tally
from search.budget import Meter, PhaseSeconds, Usage
from search.calls import Operations, Tape, listening
from search.events import AnswerChanged, NodeAdded, OnEvent, SearchStarted, TrajectoryFinished
from search.expansion import Expander
from search.outcomes import StopReason
from search.protocols import Parts
from search.record import Beginning
from search.tree import NodeId, Tree, backup


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """The tree, the answers and the spending of a search."""

    tree: Tree
    answers: tuple[AnswerGroup, ...]
    """Distinct answers, best first."""
    answer: str | None
    """The best; None where no trajectory states one."""
    confidence: float
    """Confidence that `answer` is right, in [0, 1); see `search.answers`."""
    best_path: tuple[NodeId, ...]
    """The steps of the best-scored trajectory that gives `answer`, from the first step down; empty without one."""
    trajectories_to_answer: int | None
    """Trajectories in the tree when `answer` took the lead for good, those that failed included; None without one."""
    stop_reason: StopReason
    usage: Usage
    phase_seconds: PhaseSeconds


class Run:
    """One search of one tree."""

    def __init__(
        self,
        beginning: Beginning,
        *,
        parts_for: Callable[[str], Parts],
        now: Callable[[], float],
        on_applied: Callable[[str], object] = lambda _: None,
        tape: Tape | None = None,
    ) -> None:
        self.tree = beginning.tree
        self.config = beginning.config
        self.budget = beginning.budget
        self.on_applied = on_applied
        self.tape = tape
        self._seed = beginning.seed
        self._parts_for = parts_for
        self._meter = Meter(now)
        self._now = now
        self._started_s = now()
        self._cached_trajectories = self.tree.trajectories
        self._tally = Tally(self.tree, self.config)
        self._announced = Standing()
        self._is_comparing = False
        self._on_event: OnEvent = lambda _: None

    async def begin(self, calls: Operations, on_event: OnEvent | None) -> None:
        """Announce the search, and the answer that the tree holds already."""
        on_event = on_event or self._on_event
        on_event(
            SearchStarted(
                problem=self.tree.problem, strategy=self.config.strategy, cached_trajectories=self._cached_trajectories
            )
        )
        await self.count_all(calls)
        self._on_event, self._announced = on_event, Standing()
        self._announce()

    def parts_for(self, scope: str) -> Parts:
        """The parts for the calls of one operation; `scope` is its name, or that name, a slash and more."""
        return listening(self._parts_for(scope), self._meter.listen)

    def expander(self, tree: Tree) -> Expander:
        """An expander for `tree`, which may be a branch to be grafted later."""
        return Expander(tree, config=self.config, seed=self._seed)

    def stop_reason(self) -> StopReason | None:
        """Why no further rollout may begin; None: go on."""
        if self.tape is not None:
            self.tape.check_end(applied=self.tree.applied)
        spent = self.budget.stop_reason(
            trajectories=self.tree.trajectories, tokens=self.tree.tokens, seconds=self.elapsed_s()
        )
        if spent is not None:
            return spent
        return StopReason.CONVERGED if self._is_sure() or self._is_decided() else None

    def elapsed_s(self) -> float:
        """Since the search began."""
        return self._now() - self._started_s

    @property
    def uncounted(self) -> int:
        """Trajectories whose answers are still being compared with others."""
        return self._tally.waiting

    def report_added(self, node_ids: Iterable[NodeId]) -> None:
        """Emit an event for each new node."""
        for node_id in node_ids:
            node = self.tree[node_id]
            assert node.parent is not None
            assert node.step is not None
            self._on_event(
                NodeAdded(
                    node_id=node.id,
                    parent=node.parent,
                    depth=node.depth,
                    outcome=node.outcome,
                    score=node.score,
                    text=node.step.text,
                )
            )

    def finish_trajectory(self, node_id: NodeId) -> None:
        """Back up a trajectory that ended at the node, and emit its event. Its vote is not counted yet."""
        node = self.tree[node_id]
        backup(self.tree, node_id)
        self._tally.add(node)
        self._on_event(
            TrajectoryFinished(index=self.tree.trajectories - 1, node_id=node_id, answer=node.answer, score=node.score)
        )

    def count(self, calls: Operations) -> None:
        """Count the votes that can be counted now, and start the comparison that the next one needs."""
        if self._is_comparing:
            return
        while self._tally.count_next():
            pass
        self._announce()
        if not self._tally.is_complete:
            self._is_comparing = True
            name = self._comparison
            comparing = partial(self._tally.compare, self.parts_for(name).equality)
            calls.start(name, comparing, then=lambda _: self._compared(calls))

    async def count_all(self, calls: Operations) -> None:
        """Count all votes, waiting for every comparison."""
        self.count(calls)
        while self._is_comparing:
            await calls.apply_next(self._comparison)

    def result(self, stop_reason: StopReason) -> SearchResult:
        """The result as of now. Makes no calls, so it is there at once after a deadline too."""
        self._tally.count_the_rest()
        standing = self._tally.standing
        groups = standing.groups
        best = self.tree.lineage(groups[0].node_ids[0])[1:] if groups else []
        return SearchResult(
            tree=self.tree,
            answers=groups,
            answer=standing.answer,
            confidence=standing.confidence,
            best_path=tuple(node.id for node in best),
            trajectories_to_answer=self._tally.leads_since,
            stop_reason=stop_reason,
            usage=self._meter.usage(trajectories=self.tree.trajectories, cached_trajectories=self._cached_trajectories),
            phase_seconds=self._meter.phase_seconds(),
        )

    @property
    def _comparison(self) -> str:
        return f"compare {self._tally.counted}"

    def _compared(self, calls: Operations) -> None:
        self._is_comparing = False
        self.count(calls)

    def _announce(self) -> None:
        before, self._announced = self._announced, self._tally.standing
        answer, confidence = self._announced.answer, self._announced.confidence
        if answer is not None and (answer, confidence) != (before.answer, before.confidence):
            self._on_event(AnswerChanged(answer=answer, confidence=confidence))

    def _is_sure(self) -> bool:
        """Only when all votes are counted: an answer that is still being compared may be another one."""
        enough = self.config.stop_at_confidence
        return enough is not None and self._tally.is_complete and self._tally.standing.confidence >= enough

    def _is_decided(self) -> bool:
        left = self.budget.trajectories_left(self._tally.counted)
        return self.config.stop_when_decided and left is not None and self._tally.is_decided(left)
