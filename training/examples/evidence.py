"""Evidence: all searched trees of one problem as one tree, with what they say together about every step.

Equal texts after equal prefixes are one step, whichever trees hold it. So no step can be right in one tree and wrong in
another. An answer is identified by its value, as in a search. Counts only what trajectories reached. Pure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeAlias

from search import CandidateStop, ExecutionOutcome, Node, NodeOutcome, Path, Tree
from search.tree import trajectory_value
from training.examples.paths import without_tokens

RIGHT = 1.0
"""Terminal value of a right answer."""
WRONG = -1.0
"""Terminal value of a wrong answer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """One step with its results in all trees; at the root, the problem before the first step."""

    path: Path
    """Down to the step, without token ids."""
    nodes: tuple[Node, ...]
    """The step's node in every tree that has it."""
    children: tuple["Evidence", ...]
    """In the order of adding, tree by tree."""
    trajectories: int
    """Came through or ended here, in all trees; 0: the step was proposed, but never tried."""
    returned: float
    """The sum of their values, +1 for each right one and -1 for each other; the PPM's priors do not count."""
    leads_right: bool
    """Some trajectory through here has a right answer."""
    leads_wrong: bool
    """Some trajectory through here has a wrong answer."""
    may_lead_right: bool
    """A right answer was proposed at or below the step, whether or not a trajectory went there."""

    @property
    def value(self) -> float:
        """Q over all trees, in [-1, 1], priors included: what the searches ranked by; 0 before the first visit."""
        visits = sum(node.visits for node in self.nodes)
        return sum(node.value_sum for node in self.nodes) / visits if visits else 0.0

    @property
    def is_code(self) -> bool:
        """A step whose code ran in every tree, as opposed to an answer, a failed candidate and the root."""
        return self.path.steps != () and all(_ran(node) for node in self.nodes)

    @property
    def answers(self) -> float | None:
        """+1 or -1 for an answer that a trajectory ended with; None for all else."""
        node = self.nodes[0]
        return node.terminal_value if node.outcome is NodeOutcome.ANSWERED and self.trajectories else None


Lineage: TypeAlias = tuple[Evidence, ...]
"""The steps of one trajectory, from the first to the answer."""


def merge(trees: Sequence[Tree]) -> Evidence:
    """The root of the merged tree; without trees it has nothing below it. Raises ValueError for several problems."""
    problems = {tree.problem for tree in trees}
    if len(problems) > 1:
        raise ValueError(f"expected trees of one problem, found trees of {len(problems)} problems")
    return _merge(Path(problem="".join(problems)), [(tree, tree.root) for tree in trees])


def walk(evidence: Evidence) -> Iterator[Evidence]:
    """The step and all below it, parents first."""
    yield evidence
    for child in evidence.children:
        yield from walk(child)


def trajectories(root: Evidence, *, answering: float) -> list[Lineage]:
    """Distinct trajectories that ended with an answer of this value and whose every code step ran, as first found."""
    return [lineage for lineage in _lineages(root, ()) if lineage[-1].answers == answering]


def mean_value(lineage: Lineage) -> float:
    """Mean Q of a trajectory, the answer included."""
    return fmean(step.value for step in lineage)


def _lineages(step: Evidence, above: Lineage) -> Iterator[Lineage]:
    for child in step.children:
        if child.answers is not None:
            yield (*above, child)
        elif child.is_code:
            yield from _lineages(child, (*above, child))


_Key: TypeAlias = tuple[CandidateStop, str | None, str]


def _merge(path: Path, copies: Sequence[tuple[Tree, Node]]) -> Evidence:
    """One step from its `copies` in several trees."""
    below: dict[_Key, list[tuple[Tree, Node]]] = {}
    for tree, node in copies:
        for child in tree.children(node):
            below.setdefault(_key(child), []).append((tree, child))
    children = tuple(_merge(_extended(path, same[0][1]), same) for same in below.values())
    nodes = tuple(node for _, node in copies)
    return Evidence(
        path=path,
        nodes=nodes,
        children=children,
        trajectories=sum(node.trajectories for node in nodes),
        returned=sum(_ended(tree, node) * trajectory_value(node) for tree, node in copies)
        + sum(child.returned for child in children),
        leads_right=any(_is_end(node, RIGHT) for node in nodes) or any(child.leads_right for child in children),
        leads_wrong=any(_is_end(node, WRONG) for node in nodes) or any(child.leads_wrong for child in children),
        may_lead_right=any(node.terminal_value == RIGHT for node in nodes)
        or any(child.may_lead_right for child in children),
    )


def _key(node: Node) -> _Key:
    """What the models see of a step. The output belongs to it: a program may print something else in another tree."""
    assert node.step is not None
    if node.answer is not None:
        return node.step.stop, None, node.answer
    return node.step.stop, node.step.output, node.step.text


def _extended(path: Path, node: Node) -> Path:
    assert node.step is not None
    return replace(path, steps=(*path.steps, without_tokens(node.step)))


def _ended(tree: Tree, node: Node) -> int:
    """Trajectories that ended at the node itself."""
    return node.trajectories - sum(child.trajectories for child in tree.children(node))


def _is_end(node: Node, value: float) -> bool:
    return node.outcome is NodeOutcome.ANSWERED and node.trajectories > 0 and node.terminal_value == value


def _ran(node: Node) -> bool:
    return node.execution is not None and node.execution.outcome is ExecutionOutcome.OK
