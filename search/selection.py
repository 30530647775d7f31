"""Selection: chooses the child a rollout goes on to, by UCT.

    UCT(s) = Q(s) + c * sqrt(ln N_parent(s) / N(s)),  Q(s) = q(s) / N(s)        (rStar-Math, equation 1)

N_parent is counted here and nowhere else: **the parent's own prior visit plus the visits of all its children, their
priors included**. Every evaluation that the children's terms divide by is thus in the total, as in UCB1, where the
total counts all pulls of all arms. (Taking the parent's N instead, which knows nothing of its children's priors, makes
ln N_parent = ln 1 = 0: no exploration until the node's second visit.)

A child without visits comes before all others; ties go to the lowest id. Dead and finished children are passed over:
the value of a known trajectory is known, and walking it again would spend budget on nothing. Never changes the tree.
"""

import math

from search.tree import Node, NodeId, Tree


def select_child(tree: Tree, node_id: NodeId, *, exploration: float) -> NodeId | None:
    """The child with the greatest UCT; None where every child is dead or finished, or there is none."""
    node = tree[node_id]
    total = parent_visits(tree, node)
    choices = [child for child in tree.children(node) if not child.is_finished]
    if not choices:
        return None
    # max() keeps the first of equals, and children are listed by id.
    return max(choices, key=lambda child: uct(child, parent_visits=total, exploration=exploration)).id


def parent_visits(tree: Tree, node: Node) -> int:
    """N_parent for the children of `node`."""
    return node.prior_visits + sum(child.visits for child in tree.children(node))


def uct(child: Node, *, parent_visits: int, exploration: float) -> float:
    """Equation 1; infinite for a child without visits."""
    if child.visits == 0:
        return math.inf
    return child.value + exploration * math.sqrt(math.log(parent_visits) / child.visits)
