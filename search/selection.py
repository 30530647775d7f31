"""Selection: chooses the child a rollout goes on to, by UCT or by PUCT.

    UCT(s)  = Q(s) + c * sqrt(ln N_parent(s) / N(s)),  Q(s) = q(s) / N(s)        (rStar-Math, equation 1)
    PUCT(s) = Q(s) + c * P(s) * sqrt(N_parent(s)) / (1 + N(s))                   (Silver et al. 2017, AlphaGo Zero)

N_parent is counted here and nowhere else: **the parent's own prior visit plus the visits of all its children, their
priors included**. Every evaluation that the children's terms divide by is thus in the total, as in UCB1, where the
total counts all pulls of all arms. (Taking the parent's N instead, which knows nothing of its children's priors, makes
ln N_parent = ln 1 = 0: no exploration until the node's second visit.) Rollouts in flight count as visits of value -1
(`search.in_flight`), in N, in q and in N_parent.

Under UCT a child without visits comes before all others. Ties go to the lowest id. Dead and finished children are
passed over: the value of a known trajectory is known, and walking it again would spend budget on nothing.

P(s), PUCT's prior, is the share of the policy's belief among the live siblings: `multiplicity` candidates agreed on the
step, each as likely as its tokens are on average (the geometric mean of their probabilities). The whole step's
probability would not do: it falls by orders of magnitude with every line, and the shortest sibling would get it all.
Never changes the tree.
"""

import math
from collections.abc import Iterable, Mapping

from search.config import TreePolicy
from search.in_flight import VIRTUAL_VALUE, InFlight
from search.tree import Node, NodeId, Tree


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
    losses = {child: in_flight.losses(child) for child in node.children}
    total = parent_visits(tree, node) + sum(losses.values())
    # max() keeps the first of equals, and children are listed by id.
    if tree_policy is TreePolicy.PUCT:
        priors = policy_priors(tree.children(node))
        best = max(
            choices,
            key=lambda child: puct(
                child,
                prior=priors[child.id],
                parent_visits=total,
                exploration=exploration,
                losses=losses[child.id],
            ),
        )
    else:
        best = max(
            choices,
            key=lambda child: uct(child, parent_visits=total, exploration=exploration, losses=losses[child.id]),
        )
    return best.id


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
