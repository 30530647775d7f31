"""Preference pairs: which of two paths the PPM should score higher, read off searched trees (rStar-Math, section 3.3).

Step pairs share their prefix: of a node's children, the `per_side` of highest Q that lead to a right answer against
the `per_side` of lowest Q that lead to wrong answers only, so no step is ever on both sides. Trajectory pairs drop the
prefix rule: the right trajectories of highest mean Q against the wrong ones of lowest mean Q. The paper compares only
their final steps; here each step after the two have parted is compared with its counterpart, since siblings that all
agree (printing the result) give no step pair, and the PPM would be free to score them anyhow. Q comes from
terminal-guided backup: it ranks, and is never a regression target. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import fmean

from search import Node, NodeId, NodeOutcome, Path, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`better` should score higher than `worse`; both are paths of one problem."""

    better: Path
    worse: Path
    weight: float
    """1 over the pairs of the node: every node counts the same, however many pairs it gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairConfig:
    """How pairs are chosen."""

    per_side: int = 2
    """Positives and negatives per node (the paper's 2 + 2)."""
    margin: float = 0.5
    """Least difference in Q between the two sides (the published code's filter)."""


def pairs(tree: Tree, config: PairConfig) -> Iterator[Pair]:
    """Every pair of a tree whose terminal values are +1 (right) and -1 (wrong)."""
    leads_right = _lead_to(tree, 1.0)
    leads_wrong = _lead_to(tree, -1.0)
    for parent in tree.nodes:
        steps = [child for child in tree.children(parent) if child.outcome is NodeOutcome.OPEN]
        positives = _best([step for step in steps if step.id in leads_right], config.per_side)
        negatives = _worst([s for s in steps if s.id in leads_wrong and s.id not in leads_right], config.per_side)
        yield from _paired(
            tree, [(b, w) for b, w in product(positives, negatives) if b.value - w.value >= config.margin]
        )
    yield from _trajectory_pairs(tree, config)


def _trajectory_pairs(tree: Tree, config: PairConfig) -> Iterator[Pair]:
    answered = [node for node in tree.nodes if node.outcome is NodeOutcome.ANSWERED and node.trajectories > 0]
    mean_q = {node.id: fmean(step.value for step in tree.lineage(node.id)[1:]) for node in answered}
    right = sorted((n for n in answered if n.terminal_value == 1.0), key=lambda n: -mean_q[n.id])
    wrong = sorted((n for n in answered if n.terminal_value == -1.0), key=lambda n: mean_q[n.id])
    ends = list(product(right[: config.per_side], wrong[: config.per_side]))
    yield from _paired(tree, ends)
    yield from _paired(tree, [steps for better, worse in ends for steps in _parted(tree, better, worse)])


def _parted(tree: Tree, better: Node, worse: Node) -> Iterator[tuple[Node, Node]]:
    """Steps of equal depth between where two trajectories part and where the shorter one ends, both excluded."""
    steps = list(zip(tree.lineage(better.id)[:-1], tree.lineage(worse.id)[:-1], strict=False))
    different = [(one, other) for one, other in steps if one.id != other.id]
    return iter(different[1:])


def _paired(tree: Tree, chosen: Sequence[tuple[Node, Node]]) -> Iterator[Pair]:
    for better, worse in chosen:
        yield Pair(better=tree.path(better.id), worse=tree.path(worse.id), weight=1 / len(chosen))


def _lead_to(tree: Tree, value: float) -> frozenset[NodeId]:
    """Nodes on some trajectory that ended with this terminal value."""
    return frozenset(
        node.id
        for end in tree.nodes
        if end.terminal_value == value and end.trajectories > 0
        for node in tree.lineage(end.id)
    )


def _best(nodes: Sequence[Node], count: int) -> list[Node]:
    return sorted(nodes, key=lambda node: (-node.value, node.id))[:count]


def _worst(nodes: Sequence[Node], count: int) -> list[Node]:
    return sorted(nodes, key=lambda node: (node.value, node.id))[:count]
