"""Monte Carlo tree search: rollouts from the root to the end of a trajectory, several at once.

One iteration is `Rollouts._rollout`: select children down to a node that has none, let the parts propose children for
it, apply them to the tree, and so on until a node is terminal or dead; then back up the value of the trajectory
(rStar-Math, section 3.2). There is no separate playout. Each rollout makes one trajectory that was not there before, or
fails at a dead end; both count.

A rollout waits for its own expansions only, never for another rollout; `InFlight` keeps them apart. It keeps its place
until its vote is counted. So with one place, each rollout knows the results of all before it.

How far a budget is overshot:
- trajectories: not at all; no more rollouts are begun than may still end.
- tokens: by the rollouts in flight when the limit is met, fewer than `parallel_rollouts` besides the one that met it.
  They are finished, and none is begun.
- seconds: by the time that cancelling takes; rollouts in flight are given up. They are also given up when the answer is
  decided or sure enough.

Selection: the child a rollout goes on to is chosen by UCT or by PUCT.

    UCT(s)  = Q(s) + c * sqrt(ln N_parent(s) / N(s)),  Q(s) = q(s) / N(s)        (rStar-Math, equation 1)
    PUCT(s) = Q(s) + c * P(s) * sqrt(N_parent(s)) / (1 + N(s))                   (Silver et al. 2017, AlphaGo Zero)

N_parent is computed here and nowhere else: **the parent's own prior visit plus the visits of all its children, their
priors included**. So the total holds every evaluation that the children's terms divide by, as in UCB1, where it counts
all pulls of all arms. (The parent's own N does not contain its children's priors. With it, ln N_parent = ln 1 = 0: no
exploration until the node's second visit.) Rollouts in flight count as visits of value -1 in N, in q and in N_parent.

Under UCT a child without visits comes before all others. Ties go to the lowest id. Dead and finished children are
skipped: the value of a known trajectory is known, and walking it again would spend budget on nothing.

P(s), PUCT's prior, is the share of the policy's belief among the live siblings: `multiplicity` candidates agreed on the
step, each as likely as its tokens are on average (the geometric mean of their probabilities). The probability of the
whole step is not used: it falls by orders of magnitude with every line, and the shortest sibling would get nearly all
of the prior.
"""

import math
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import partial

from search.calls import Operations
from search.config import TreePolicy
from search.expansion import Expander, Plan, Proposal, propose
from search.outcomes import NodeOutcome, StopReason
from search.run import Run
from search.tree import ROOT, Node, NodeId, Tree

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


VIRTUAL_VALUE = -1.0
"""The lowest value of a trajectory: it drives rollouts apart the most."""


class InFlight:
    """The rollouts under way in one tree: their virtual loss, and where there is room for more. Changes no tree.

    **Virtual loss**: a rollout counts, for selection only, as a visit of value -1 at every node it has come to, until
    it is backed up or given up. The loss is kept here and not in the tree, so that a tree never holds the loss of a
    rollout that was cancelled or failed.

    **Room**: a node that is being expanded is closed to other rollouts. A second rollout does not wait there, but turns
    to a part of the tree where it can expand something: waiting would use up its place without giving the engines any
    work. So a rollout is only begun where there is room. Once begun, it meets no other: it goes on through children
    that it made itself.
    """

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._losses = Counter[NodeId]()
        self._expanding: set[NodeId] = set()
        self._without_room: set[NodeId] = set()

    def losses(self, node_id: NodeId) -> int:
        """Rollouts under way that have come to the node."""
        return self._losses.get(node_id, 0)

    def has_room(self, node_id: NodeId) -> bool:
        """Whether another rollout could expand a node, or end at one, at `node_id` or below."""
        return node_id not in self._without_room and not self._tree[node_id].is_finished

    def enter(self, node_id: NodeId) -> None:
        """A rollout has come to the node."""
        self._losses[node_id] += 1

    def leave(self, path: Iterable[NodeId]) -> None:
        """The rollout that came along `path` is over."""
        self._losses.subtract(path)

    @contextmanager
    def expanding(self, node_id: NodeId) -> Generator[None]:
        """Keep other rollouts away from the node until it has its children, or the expansion was given up."""
        self._expanding.add(node_id)
        self.update(node_id)
        try:
            yield
        finally:
            self._expanding.discard(node_id)
            self.update(node_id)

    def update(self, node_id: NodeId) -> None:
        """Find out again where there is room, from the node up, after it changed."""
        above: NodeId | None = node_id
        while above is not None:
            node = self._tree[above]
            is_full = self._is_full(node)
            if is_full == (above in self._without_room) and above != node_id:
                return
            if is_full:
                self._without_room.add(above)
            else:
                self._without_room.discard(above)
            above = node.parent

    def _is_full(self, node: Node) -> bool:
        if node.is_finished or node.id in self._expanding:
            return True
        return bool(node.children) and not any(self.has_room(child) for child in node.children)


def select_child(
    tree: Tree,
    node_id: NodeId,
    *,
    exploration: float,
    tree_policy: TreePolicy = TreePolicy.UCT,
    in_flight: InFlight | None = None,
) -> NodeId | None:
    """The child that the tree policy rates highest; None where no child has room for a rollout."""
    node = tree[node_id]
    in_flight = in_flight or InFlight(tree)
    choices = [tree[child] for child in node.children if in_flight.has_room(child)]
    if not choices:
        return None
    total = parent_visits(tree, node) + sum(in_flight.losses(child) for child in node.children)
    priors = policy_priors(tree.children(node)) if tree_policy is TreePolicy.PUCT else None

    def rating(child: Node) -> float:
        losses = in_flight.losses(child.id)
        if priors is None:
            return uct(child, parent_visits=total, exploration=exploration, losses=losses)
        return puct(child, prior=priors[child.id], parent_visits=total, exploration=exploration, losses=losses)

    # max() keeps the first of equals, and children are listed by id.
    return max(choices, key=rating).id


def parent_visits(tree: Tree, node: Node) -> int:
    """N_parent for the children of `node`, without rollouts in flight."""
    return node.prior_visits + sum(child.visits for child in tree.children(node))


def uct(child: Node, *, parent_visits: int, exploration: float, losses: int = 0) -> float:
    """Equation 1; infinite for a child without visits."""
    visits = child.visits + losses
    if visits == 0:
        return math.inf
    value = (child.value_sum + losses * VIRTUAL_VALUE) / visits
    return value + exploration * math.sqrt(math.log(parent_visits) / visits)


def puct(child: Node, *, prior: float, parent_visits: int, exploration: float, losses: int = 0) -> float:
    """AlphaZero's rule; Q of a child without visits is 0, the middle of its range."""
    visits = child.visits + losses
    value = (child.value_sum + losses * VIRTUAL_VALUE) / visits if visits else 0.0
    return value + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


def policy_priors(siblings: Iterable[Node]) -> Mapping[NodeId, float]:
    """P of each live one of all the children of a node; they add up to 1."""
    live = [node for node in siblings if not node.is_dead]
    logs = [math.log(node.multiplicity) + node.logprob / _length(node) for node in live]
    # The greatest is taken out first: exp() of all of them may be 0.
    greatest = max(logs, default=0.0)
    shares = [math.exp(log - greatest) for log in logs]
    total = sum(shares)
    return {node.id: share / total for node, share in zip(live, shares, strict=True)}


def _length(node: Node) -> int:
    # The tokens of one candidate: `tokens` counts those of merged ones too.
    return max(1, 0 if node.step is None else len(node.step.token_ids))
