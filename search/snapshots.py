"""Snapshots: the interpreter state after each node, for one tree during one run.

The only state of a search outside its tree, since it cannot be saved. A missing snapshot (the tree was loaded) is
made again, when first needed, by running the path's code steps from the last node that has one.
"""

from dataclasses import replace

from search.outcomes import ExecutionOutcome
from search.protocols import CodeRunner, Execution, Snapshot
from search.tree import ROOT, Node, NodeId, Tree


class StateLost(Exception):
    """Running the code of `node_id` again ended differently."""

    def __init__(self, node_id: NodeId) -> None:
        super().__init__(node_id)
        self.node_id = node_id


class Snapshots:
    """Finds the snapshot to run the next step from."""

    def __init__(self, tree: Tree, runner: CodeRunner) -> None:
        self._tree = tree
        self._runner = runner
        self._by_node: dict[NodeId, Snapshot | None] = {ROOT: None}

    def keep(self, node_id: NodeId, snapshot: Snapshot | None) -> None:
        """Remember the state after a node; None where the runner kept none."""
        if snapshot is not None:
            self._by_node[node_id] = snapshot

    async def after(self, node_id: NodeId) -> Snapshot | None:
        """The state after `node_id`; None at the root. Raises `StateLost` where it cannot be made again."""
        missing: list[Node] = []
        for node in reversed(self._tree.lineage(node_id)):
            if node.id in self._by_node:
                break
            missing.append(node)
        for node in reversed(missing):
            assert node.parent is not None
            self._by_node[node.id] = await self._run_again(node, self._by_node[node.parent])
        return self._by_node[node_id]

    async def _run_again(self, node: Node, parent: Snapshot | None) -> Snapshot:
        assert node.step is not None
        assert node.execution is not None
        execution = await self._runner.run(parent, node.step.text)
        if execution.snapshot is None or not _ended_alike(execution, node.execution):
            raise StateLost(node.id)
        return execution.snapshot


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
