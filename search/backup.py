"""Backup: gives a new node its first value, and adds one trajectory's value to every node on its path.

After any number of trajectories a node has q = (its prior, if any) + the values of the trajectories through it, and
N = `prior_visits` + their number; so Q stays in [-1, 1]. Never calls a model.
"""

from search.outcomes import NodeOutcome
from search.tree import Node, NodeId, Tree

FAILED_VALUE = -1.0
"""A trajectory that ends without an answer is worth as much as a wrong one: it cannot be right either."""


def give_prior(node: Node, score: float) -> None:
    """PPM-augmented annotation: q(s)^0 = PPM(path to s), which counts as the node's first visit: N = 1.

    The only place where a prior becomes a visit. Terminal-guided annotation leaves this out: q = 0, N = 0.
    """
    node.prior_visits = 1
    node.visits = 1
    node.value_sum = score


def trajectory_value(node: Node) -> float:
    """The value of a trajectory that ended at `node`, in [-1, 1]; 0 for an answer that nobody judged or scored."""
    if node.outcome is NodeOutcome.ANSWERED:
        return 0.0 if node.terminal_value is None else node.terminal_value
    return FAILED_VALUE


def backup(tree: Tree, node_id: NodeId) -> None:
    """q(s)^k = q(s)^(k-1) + the value of the trajectory that ended at `node_id`, for s from there to the root."""
    value = trajectory_value(tree[node_id])
    tree[node_id].ends_trajectory = tree.trajectories
    tree.applied += 1
    for node in tree.lineage(node_id):
        node.visits += 1
        node.value_sum += value
