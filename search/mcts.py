"""Monte Carlo tree search: rollouts from the root to the end of a trajectory, several at once.

A rollout is one walk: select a child, expand it if nobody has, go on until a node is terminal or dead (rStar-Math,
section 3.2). There is no separate playout. Each rollout makes one trajectory that was not there before, or fails
at a dead end; both count.

Rollouts wait for their own expansions only, never for one another; `search.in_flight` keeps them apart. A rollout
occupies its place until its vote is counted, so that with one place each rollout knows all about those before it.

What a budget is overshot by: trajectories, not at all: no more rollouts are begun than may still end. Tokens, by what
the rollouts in flight generate after the limit was met: they are finished, fewer than `parallel_rollouts` besides the
one that met it, and none is begun. Seconds, by what cancelling takes: rollouts in flight are given up, as they are when
the answer is decided or sure enough.
"""

from functools import partial

from search.expansion import Expander, closed_by
from search.in_flight import InFlight
from search.operations import Operations
from search.outcomes import NodeOutcome, StopReason
from search.proposal import Proposal, propose
from search.run import Run
from search.selection import select_child
from search.tree import ROOT, NodeId

Rollout = list[NodeId]
"""The nodes that a rollout has come to, from the root down."""


async def mcts(run: Run, calls: Operations) -> StopReason:
    """Make trajectories until the budget is spent or the tree holds nothing new."""
    rollouts = Rollouts(run, calls)
    try:
        while (reason := rollouts.begin_more()) is None:
            await calls.apply_next()
    finally:
        rollouts.give_up_all()
    return reason


class Rollouts:
    """The rollouts under way. Nothing here waits: it acts on results, one after the other."""

    def __init__(self, run: Run, calls: Operations) -> None:
        self._run = run
        self._tree = run.tree
        self._calls = calls
        self._expander: Expander = run.expander(run.tree)
        self._under_way: list[Rollout] = []
        self.in_flight = InFlight(run.tree)

    def begin_more(self) -> StopReason | None:
        """Begin as many rollouts as there are places for; the reason to stop, once there is one and nothing is left."""
        while self._occupied < self._run.config.parallel_rollouts:
            reason = self._run.stop_reason()
            if reason in (StopReason.DEADLINE, StopReason.CONVERGED):
                return reason
            if reason is None and self._tree.root.is_finished:
                reason = StopReason.EXHAUSTED
            if reason is not None:
                return None if self._occupied else reason
            if not self._may_begin():
                return None
            rollout = [ROOT]
            self._under_way.append(rollout)
            self._walk(rollout)
        return None

    def give_up_all(self) -> None:
        """Forget the rollouts under way: their expansions will not be applied."""
        for rollout in list(self._under_way):
            self.in_flight.end_expansion(rollout[-1])
            self._give_up(rollout)

    @property
    def _occupied(self) -> int:
        return len(self._under_way) + self._run.uncounted

    def _may_begin(self) -> bool:
        left = self._run.budget.trajectories_left(self._tree.trajectories)
        return (left is None or len(self._under_way) < left) and self.in_flight.has_room(ROOT)

    def _walk(self, rollout: Rollout) -> None:
        """Go on from the last node of the rollout, which it has only just come to."""
        while True:
            node = self._tree[rollout[-1]]
            self.in_flight.enter(node.id)
            if node.outcome is not NodeOutcome.OPEN:
                self._end(rollout, node.id)
                return
            if not node.children:
                self._expand(rollout)
                return
            rollout.append(self._select(node.id))

    def _select(self, node_id: NodeId) -> NodeId:
        config = self._run.config
        chosen = select_child(
            self._tree,
            node_id,
            exploration=config.exploration,
            tree_policy=config.tree_policy,
            in_flight=self.in_flight,
        )
        # Rollouts are begun where there is room, and children that have just been made are nobody else's.
        assert chosen is not None
        return chosen

    def _expand(self, rollout: Rollout) -> None:
        node_id = rollout[-1]
        self.in_flight.begin_expansion(node_id)
        name = f"expand {node_id}"
        plan = self._expander.plan(node_id, n=self._run.config.candidates)
        proposing = partial(propose, plan, parts=self._run.parts_for(name), config=self._run.config)
        self._calls.start(name, proposing, then=partial(self._grow, rollout))

    def _grow(self, rollout: Rollout, proposal: Proposal) -> None:
        node_id = rollout[-1]
        closed = closed_by(proposal)
        if any(self._tree[above].is_dead for above in rollout):
            # Another rollout found that a node above cannot be gone on from: that dead end is counted already.
            self.in_flight.end_expansion(node_id)
            self._give_up(rollout)
            return
        added = self._expander.apply(proposal)
        self.in_flight.end_expansion(node_id)
        self._run.report_added(added)
        if closed is not None:
            self._end(rollout, closed)
        elif self._tree[node_id].is_dead:
            self._end(rollout, node_id)
        else:
            rollout.append(self._select(node_id))
            self._walk(rollout)

    def _end(self, rollout: Rollout, end: NodeId) -> None:
        self._give_up(rollout)
        self._run.finish_trajectory(end)
        self._tree.settle(end)
        self.in_flight.update(end)
        self._run.count(self._calls)

    def _give_up(self, rollout: Rollout) -> None:
        # By identity: two rollouts that have only come to the root look alike.
        self._under_way = [other for other in self._under_way if other is not rollout]
        self.in_flight.leave(rollout)
