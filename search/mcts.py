"""Monte Carlo tree search: rollouts from the root to the end of a trajectory, several at once.

One iteration is `Rollouts._rollout`: select children down to a node that has none, let the parts propose children for
it, apply them to the tree, and so on until a node is terminal or dead; then back up the value of the trajectory
(rStar-Math, section 3.2). There is no separate playout. Each rollout makes one trajectory that was not there before, or
fails at a dead end; both count.

A rollout waits for its own expansions only, never for another rollout; `search.selection.InFlight` keeps them apart. It
keeps its place until its vote is counted. So with one place, each rollout knows the results of all before it.

How far a budget is overshot:
- trajectories: not at all; no more rollouts are begun than may still end.
- tokens: by the rollouts in flight when the limit is met, fewer than `parallel_rollouts` besides the one that met it.
  They are finished, and none is begun.
- seconds: by the time that cancelling takes; rollouts in flight are given up. They are also given up when the answer is
  decided or sure enough.
"""

from collections.abc import Generator
from functools import partial

from search.expansion import Expander, Plan, Proposal, propose
from search.operations import Operations
from search.outcomes import NodeOutcome, StopReason
from search.run import Run
from search.selection import InFlight, select_child
from search.tree import ROOT, Node, NodeId

Rollout = Generator[Plan, Proposal | None, None]
"""Yields a plan and is resumed with the proposal for it."""


async def mcts(run: Run, calls: Operations) -> StopReason:
    """Make trajectories until the budget is spent or nothing new is left in the tree."""
    rollouts = Rollouts(run, calls)
    try:
        while (reason := rollouts.begin_more()) is None:
            await calls.apply_next()
    finally:
        rollouts.give_up_all()
    return reason


class Rollouts:
    """The rollouts under way. Nothing here waits: a rollout is resumed when its proposal is there."""

    def __init__(self, run: Run, calls: Operations) -> None:
        self._run = run
        self._tree = run.tree
        self._calls = calls
        self._expander: Expander = run.expander(run.tree)
        self._under_way: list[Rollout] = []
        self.in_flight = InFlight(run.tree)

    def _rollout(self) -> Rollout:
        """One iteration: select, propose, apply, back up."""
        path = [ROOT]
        self.in_flight.enter(ROOT)
        try:
            end = None
            while end is None:
                node = self._select(path)  # 1. Select.
                if node.outcome is not NodeOutcome.OPEN:
                    end = node.id
                    break
                with self.in_flight.expanding(node.id):
                    # 2. Propose: the parts work on the plan, and other rollouts go on meanwhile.
                    proposal = yield self._expander.plan(node.id, n=self._run.config.candidates)
                    assert proposal is not None
                    if any(self._tree[above].is_dead for above in path):
                        return  # Another rollout ended at a node above, and counted this dead end.
                    end = self._apply(proposal)  # 3. Apply.
        finally:
            self.in_flight.leave(path)
        self._backup(end)  # 4. Back up.

    def _select(self, path: list[NodeId]) -> Node:
        """Go down from the end of the path to a node without children."""
        config = self._run.config
        while (node := self._tree[path[-1]]).children:
            chosen = select_child(
                self._tree,
                node.id,
                exploration=config.exploration,
                tree_policy=config.tree_policy,
                in_flight=self.in_flight,
            )
            # Rollouts are begun where there is room, and no other rollout can enter new children first.
            assert chosen is not None
            self.in_flight.enter(chosen)
            path.append(chosen)
        return node

    def _apply(self, proposal: Proposal) -> NodeId | None:
        """Add the children to the tree; the end of the trajectory where it cannot go on."""
        self._run.report_added(self._expander.apply(proposal))
        if proposal.closes is not None:
            return proposal.closes
        return proposal.node_id if self._tree[proposal.node_id].is_dead else None

    def _backup(self, end: NodeId) -> None:
        """Give every node of the path the value of the trajectory, and count its vote."""
        self._run.finish_trajectory(end)
        self._tree.settle(end)
        self.in_flight.update(end)
        self._run.count(self._calls)

    def begin_more(self) -> StopReason | None:
        """Begin as many rollouts as there are places for.

        Returns the reason to stop, once there is one and no rollout is left.
        """
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
            rollout = self._rollout()
            self._under_way.append(rollout)
            self._resume(rollout, None)
        return None

    def give_up_all(self) -> None:
        """Forget the rollouts under way: their expansions will not be applied."""
        for rollout in self._under_way:
            rollout.close()
        self._under_way.clear()

    @property
    def _occupied(self) -> int:
        return len(self._under_way) + self._run.uncounted

    def _may_begin(self) -> bool:
        left = self._run.budget.trajectories_left(self._tree.trajectories)
        return (left is None or len(self._under_way) < left) and self.in_flight.has_room(ROOT)

    def _resume(self, rollout: Rollout, proposal: Proposal | None) -> None:
        """Run the rollout up to its next plan, and start work on that plan."""
        try:
            plan = rollout.send(proposal)
        except StopIteration:
            self._under_way.remove(rollout)
            return
        name = f"expand {plan.node.id}"
        proposing = partial(propose, plan, parts=self._run.parts_for(name), config=self._run.config)
        self._calls.start(name, proposing, then=partial(self._resume, rollout))
