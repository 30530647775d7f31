"""A run: what one call of `search` carries from rollout to rollout, and the result it ends in.

Everything here but the tree can be made again from the tree and the caller's arguments.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import assert_never

from search.answers import AnswerGroup, Standing
from search.backup import backup
from search.budget import Budget
from search.config import SearchConfig, Selection, Strategy
from search.decision import is_decided, most_votes_ahead
from search.events import AnswerChanged, Event, NodeAdded, OnEvent, SearchStarted, TrajectoryFinished
from search.expansion import Expander
from search.listening import listening
from search.metering import Meter, PhaseSeconds, Usage
from search.operations import Operations
from search.outcomes import StopReason
from search.parts import Parts
from search.tally import Tally
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
    trajectories_to_answer: int | None
    """Trajectories in the tree when `answer` took the lead for good, those that failed included; None without one."""
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
        self.tape = parts.tape
        self._meter = Meter(now)
        self._bare_parts = parts
        self._parts = listening(parts, self._meter.listen)
        self._seed = seed
        self._now = now
        self._started_s = now()
        self._cached_trajectories = tree.trajectories
        self._tally = Tally(tree, config)
        self._announced = Standing()
        self._is_comparing = False
        self._decided = (-1, False)
        self._on_event: OnEvent = _ignore

    async def begin(self, calls: Operations, on_event: OnEvent | None) -> None:
        """Announce the search, and the answer that the tree holds already."""
        started = SearchStarted(
            problem=self.tree.problem, strategy=self.config.strategy, cached_trajectories=self._cached_trajectories
        )
        (on_event or _ignore)(started)
        await self.count_all(calls)
        self._on_event, self._announced = on_event or _ignore, Standing()
        self._announce()

    def parts_for(self, scope: str) -> Parts:
        """The parts, for calls within one operation; see `search.tape`."""
        if self.tape is None:
            return self._parts
        return listening(self.tape.scoped(self._bare_parts, scope), self._meter.listen)

    def expander(self, tree: Tree) -> Expander:
        """An expander for `tree`, which may be a branch to be grafted later."""
        return Expander(tree, config=self.config, seed=self._seed)

    def stop_reason(self) -> StopReason | None:
        """Why not to begin another rollout; None: go on."""
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
        """Tell of new nodes."""
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
        """Back up a trajectory that ended at the node, and tell of it. Its vote is not counted yet."""
        node = self.tree[node_id]
        index = self.tree.trajectories
        backup(self.tree, node_id)
        self._tally.add(node)
        self._on_event(TrajectoryFinished(index=index, node_id=node_id, answer=node.answer, score=node.score))

    def count(self, calls: Operations) -> None:
        """Count the votes that can be counted now, and have compared what must be compared before the next."""
        if self._is_comparing:
            return
        while self._tally.count_next():
            pass
        self._announce()
        if not self._tally.is_complete:
            self._is_comparing = True
            name = self._comparison
            asking = partial(self._tally.ask, self.parts_for(name).equality)
            calls.start(name, asking, then=lambda _: self._compared(calls))

    async def count_all(self, calls: Operations) -> None:
        """Count all votes, waiting for every comparison."""
        self.count(calls)
        while self._is_comparing:
            await calls.apply_next(self._comparison)

    def result(self, stop_reason: StopReason) -> SearchResult:
        """The result as of now; asks nobody anything, so it is there at once after a deadline too."""
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
        """Only when all votes are counted: one that is still being compared may speak against the answer."""
        enough = self.config.stop_at_confidence
        return enough is not None and self._tally.is_complete and self._tally.standing.confidence >= enough

    def _is_decided(self) -> bool:
        """Asked often, worked out once for each count: the tree that grows in between can only lower the bounds."""
        left = self.budget.trajectories_left(self._tally.counted)
        if not self.config.stop_when_decided or left is None:
            return False
        if self._decided[0] != self._tally.counted:
            self._decided = (self._tally.counted, self._work_out_decision(left))
        return self._decided[1]

    def _work_out_decision(self, left: int) -> bool:
        tally, config = self._tally, self.config
        gain = tally.votes_waiting + (left - tally.waiting) * self._votes_ahead()
        displaced = 0
        if config.answer_selection is Selection.WEIGHTED_VOTE and config.top_k is not None:
            displaced = min(left, max(0, tally.ballots_cast + left - config.top_k))
        return is_decided(
            tally.standing,
            selection=config.answer_selection,
            gain=gain,
            loss=displaced * tally.most_votes_cast,
            has_unknown=tally.has_unknown,
        )

    def _votes_ahead(self) -> int:
        match self.config.strategy:
            case Strategy.MCTS:
                return most_votes_ahead(self.tree, candidates=self.config.candidates)
            case Strategy.STEP_BEAM:
                return self.config.candidates
            case Strategy.GREEDY | Strategy.MAJORITY | Strategy.BEST_OF_N:
                return 1
            case _:
                assert_never(self.config.strategy)


def _ignore(_: Event) -> None:
    pass
