"""Selection: chooses the child a rollout goes on to, by UCT or by PUCT. Never changes the tree.

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

from search.config import TreePolicy
from search.tree import Node, NodeId, Tree

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
