"""Invariants: rules that every tree keeps between two awaits, also after cancellations and failures. Pure."""

import math

from search.outcomes import ExecutionOutcome, NodeOutcome
from search.tree import Node, Tree, trajectory_value

TOLERANCE = 1e-9
"""Values are sums of rounded numbers."""


class BrokenTree(AssertionError):
    """A tree breaks an invariant: a bug in the search."""


def check_invariants(tree: Tree) -> None:
    """Raise `BrokenTree` naming the first node that breaks a rule."""
    values = _values_below(tree)
    for node in tree.nodes:
        ended_here = node.trajectories - sum(child.trajectories for child in tree.children(node))
        may_end = node.outcome is not NodeOutcome.OPEN
        _check(0 <= ended_here <= int(may_end), node, f"{ended_here} trajectories ended here")
        _check(node.prior_visits in (0, 1), node, "its prior counts as one visit at most")
        prior = (node.score or 0.0) * node.prior_visits
        is_close = math.isclose(node.value_sum, prior + values[node.id], rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        _check(is_close, node, "its value is not what was backed up")
        _check(-1.0 - TOLERANCE <= node.value <= 1.0 + TOLERANCE, node, f"its value is {node.value}")
        if node.outcome is NodeOutcome.CHILDLESS:
            _check(all(child.is_dead for child in tree.children(node)), node, "a child of it is alive")
        if node.execution is not None and node.execution.outcome not in (ExecutionOutcome.OK, ExecutionOutcome.LOST):
            _check(not node.children and node.prior_visits == 0, node, "its code failed, but it was gone on from")
    numbers = sorted(node.ends_trajectory for node in tree.nodes if node.ends_trajectory is not None)
    _check(numbers == list(range(tree.trajectories)), tree.root, "trajectories are not numbered one by one")


def _values_below(tree: Tree) -> list[float]:
    """The sum of the values of the trajectories that ended at or below each node."""
    sums = [0.0] * len(tree.nodes)
    for node in reversed(tree.nodes):
        ended_here = node.trajectories - sum(child.trajectories for child in tree.children(node))
        sums[node.id] += ended_here * trajectory_value(node)
        if node.parent is not None:
            sums[node.parent] += sums[node.id]
    return sums


def _check(holds: bool, node: Node, complaint: str) -> None:  # noqa: FBT001 - reads like the assertion it is
    if not holds:
        raise BrokenTree(f"node {node.id} ({node.outcome}): {complaint}")
