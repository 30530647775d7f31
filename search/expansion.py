"""Expansion: plans the request about a node, and applies the proposal that comes back: its drafts become children.

Candidates that fail are added too, dead, with the reason: training needs them, selection skips them. A child that
states the answer does not affect its siblings. Only `apply` changes the tree, without an await, so that a search
interrupted during an expansion leaves the tree as it was.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace

from search.config import SearchConfig
from search.outcomes import ExecutionOutcome, NodeOutcome
from search.proposal import Draft, Plan, Proposal, Route
from search.protocols import Path, Snapshot, scores_steps
from search.tree import ROOT, Node, NodeId, Tree, give_prior


class Expander:
    """Expands nodes of one tree during one run, and keeps the interpreter state after each node.

    These snapshots are the only state of a search outside its tree, since they cannot be saved. A missing snapshot (the
    tree was loaded) is made again when first needed: the path's code steps are run from the last node that has one.
    Snapshots made again by one expansion are available to others once that expansion is applied, so that the steps run
    again do not depend on which expansion is faster.
    """

    def __init__(self, tree: Tree, *, config: SearchConfig, seed: int) -> None:
        self._tree = tree
        self._config = config
        self._seed = seed
        self._snapshots: dict[NodeId, Snapshot | None] = {ROOT: None}

    def plan(self, node_id: NodeId, *, n: int, draw: int = 0) -> Plan:
        """For at most `n` children of an open node, as the tree is now; `draw` tells repeated requests apart."""
        path = self._tree.path(node_id)
        return Plan(
            node=self._tree[node_id],
            path=path,
            n=n,
            seed=request_seed(self._seed, path, draw=draw),
            route=route_to(self._tree, self._snapshots, node_id),
            executions=self._tree.executions(node_id),
        )

    def apply(self, proposal: Proposal) -> list[NodeId]:
        """Add the children and return their ids, dead ones included; empty where `proposal.closes` a node instead."""
        for node_id, snapshot in proposal.restored.items():
            self._snapshots.setdefault(node_id, snapshot)
        self._tree.applied += 1
        if proposal.closes is not None:
            self._close(proposal.closes, is_lost=proposal.is_lost)
            return []
        parent = self._tree[proposal.node_id]
        added: list[NodeId] = []
        for draft in proposal.drafts:
            node = _node(draft, id=self._tree.next_id, parent=parent)
            if draft.score is not None and scores_steps(self._config):
                give_prior(node, draft.score)
            self._tree.add(node)
            if draft.execution is not None and draft.execution.snapshot is not None:
                self._snapshots[node.id] = draft.execution.snapshot
            added.append(node.id)
        self._tree.settle(parent.id)
        return added

    def _close(self, node_id: NodeId, *, is_lost: bool) -> None:
        if is_lost:
            node = self._tree[node_id]
            assert node.execution is not None
            node.execution = replace(
                node.execution,
                outcome=ExecutionOutcome.LOST,
                error="the step ended differently when it was run again",
            )
        self._tree.close(node_id, NodeOutcome.CODE_FAILED if is_lost else NodeOutcome.TOO_DEEP)


def _node(draft: Draft, *, id: NodeId, parent: Node) -> Node:
    return Node(
        id=id,
        parent=parent.id,
        depth=parent.depth + 1,
        step=draft.step,
        outcome=draft.outcome,
        execution=None if draft.execution is None else replace(draft.execution, snapshot=None),
        answer=draft.answer,
        score=draft.score,
        terminal_value=draft.terminal_value,
        logprob=draft.logprob,
        multiplicity=draft.multiplicity,
        tokens=draft.tokens,
    )


def route_to(tree: Tree, snapshots: Mapping[NodeId, Snapshot | None], node_id: NodeId) -> Route:
    """From the nearest snapshot above the node, as things are now."""
    node = tree[node_id]
    missing: list[Node] = []
    while node.id not in snapshots:
        missing.append(node)
        assert node.parent is not None
        node = tree[node.parent]
    return Route(known=snapshots[node.id], missing=tuple(reversed(missing)))


def request_seed(search_seed: int, path: Path, *, draw: int) -> int:
    """A seed from 0 to 2**63 - 1 for proposing the step after `path`; `draw` tells repeated requests apart.

    The same in every run of the same search. It is a hash because engines give sample k of a request the seed s + k:
    requests with consecutive seeds would share samples. The top bit of the 64-bit hash is dropped, since engines take
    seeds as signed numbers.
    """
    digest = hashlib.blake2b(digest_size=8)
    fields = [str(search_seed), str(draw), path.problem]
    for step in path.steps:
        fields += step.stop, step.text
    for field in fields:
        encoded = field.encode("utf-8", "surrogatepass")
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big") >> 1
