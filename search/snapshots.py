"""Snapshots: the interpreter state after each node, for one tree during one run.

The only state of a search outside its tree, since it cannot be saved. A missing snapshot (the tree was loaded) is
made again, when first needed, by running the path's code steps from the last node that has one. What one expansion made
again is there for others once that expansion is applied: which of them runs what does not depend on who is faster.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from search.outcomes import ExecutionOutcome
from search.protocols import CodeRunner, Execution, Snapshot
from search.tree import ROOT, Node, NodeId, Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to come to the state after a node."""

    known: Snapshot | None
    """The state to begin with; None: a fresh interpreter."""
    missing: tuple[Node, ...] = ()
    """Whose steps to run again from there, in order."""


@dataclass(slots=True, kw_only=True)
class Restored:
    """What came of following a route."""

    state: Snapshot | None
    """At its end, unless it was lost."""
    made: dict[NodeId, Snapshot] = field(default_factory=dict[NodeId, Snapshot])
    """Snapshots made again on the way."""
    lost: NodeId | None = None
    """The node whose step ended differently when it was run again."""


class Snapshots:
    """Finds the snapshot to run the next step from."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._by_node: dict[NodeId, Snapshot | None] = {ROOT: None}

    def keep(self, node_id: NodeId, snapshot: Snapshot | None) -> None:
        """Remember the state after a node; None where the runner kept none."""
        if snapshot is not None:
            self._by_node[node_id] = snapshot

    def keep_all(self, made: Mapping[NodeId, Snapshot]) -> None:
        """Remember what was made again; of two snapshots of one node the first."""
        for node_id, snapshot in made.items():
            self._by_node.setdefault(node_id, snapshot)

    def route_to(self, node_id: NodeId) -> Route:
        """From the nearest snapshot above, as things are now."""
        node = self._tree[node_id]
        missing: list[Node] = []
        while node.id not in self._by_node:
            missing.append(node)
            assert node.parent is not None
            node = self._tree[node.parent]
        return Route(known=self._by_node[node.id], missing=tuple(reversed(missing)))


async def restore(route: Route, runner: CodeRunner) -> Restored:
    """The state at the end of `route`."""
    restored = Restored(state=route.known)
    for node in route.missing:
        assert node.step is not None
        assert node.execution is not None
        execution = await runner.run(restored.state, node.step.text)
        if execution.snapshot is None or not _ended_alike(execution, node.execution):
            restored.lost = node.id
            return restored
        restored.state = restored.made[node.id] = execution.snapshot
    return restored


def lost(execution: Execution | None) -> Execution:
    """The record of a step that ran once but did not run the same way again."""
    return replace(
        execution or Execution(outcome=ExecutionOutcome.LOST),
        outcome=ExecutionOutcome.LOST,
        error="the step ended differently when it was run again",
        snapshot=None,
    )


def _ended_alike(again: Execution, before: Execution) -> bool:
    return (again.outcome, again.stdout, again.value) == (before.outcome, before.stdout, before.value)
