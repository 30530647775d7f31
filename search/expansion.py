"""Expansion: plans what to ask about a node, and turns the proposal that comes back into its children.

Candidates that fail are added too, dead, with the reason: training wants them, selection passes them over. One that
states the answer leaves its siblings alone. The tree changes in `apply` and nowhere else, without an await, so that a
search interrupted during an expansion leaves it as it was.
"""

from dataclasses import replace

from search.backup import give_prior
from search.candidates import Draft
from search.config import SearchConfig
from search.outcomes import NodeOutcome
from search.parts import Parts, scores_steps
from search.proposal import Plan, Proposal, propose
from search.seeds import request_seed
from search.snapshots import Snapshots, lost
from search.tree import Node, NodeId, Tree


class Expander:
    """Expands nodes of one tree during one run."""

    def __init__(self, tree: Tree, *, config: SearchConfig, seed: int) -> None:
        self._tree = tree
        self._config = config
        self._seed = seed
        self._snapshots = Snapshots(tree)

    def plan(self, node_id: NodeId, *, n: int, draw: int = 0) -> Plan:
        """For at most `n` children of an open node, as the tree is now; `draw` tells repeated requests apart."""
        path = self._tree.path(node_id)
        return Plan(
            node=self._tree[node_id],
            path=path,
            n=n,
            seed=request_seed(self._seed, path, draw=draw),
            route=self._snapshots.route_to(node_id),
            executions=self._tree.executions(node_id),
        )

    def apply(self, proposal: Proposal) -> list[NodeId]:
        """Add the children; their ids, dead ones included.

        Empty where a node had to be closed instead: `closed_by` says which.
        """
        self._snapshots.keep_all(proposal.restored)
        self._tree.applied += 1
        if (closed := closed_by(proposal)) is None:
            return self._add(proposal)
        if proposal.lost is None:
            self._tree.close(closed, NodeOutcome.TOO_DEEP)
        else:
            self._tree[closed].execution = lost(self._tree[closed].execution)
            self._tree.close(closed, NodeOutcome.CODE_FAILED)
        return []

    async def expand(self, node_id: NodeId, *, parts: Parts, n: int, draw: int = 0) -> list[NodeId]:
        """Plan, propose and apply in one go, for a tree that nobody else works on."""
        plan = self.plan(node_id, n=n, draw=draw)
        return self.apply(await propose(plan, parts=parts, config=self._config))

    def _add(self, proposal: Proposal) -> list[NodeId]:
        parent = self._tree[proposal.node_id]
        added: list[NodeId] = []
        for draft in proposal.drafts:
            node = _node(draft, id=self._tree.next_id, parent=parent)
            if draft.score is not None and scores_steps(self._config):
                give_prior(node, draft.score)
            self._tree.add(node)
            if draft.execution is not None:
                self._snapshots.keep(node.id, draft.execution.snapshot)
            added.append(node.id)
        self._tree.settle(parent.id)
        return added


def closed_by(proposal: Proposal) -> NodeId | None:
    """The node that cannot be gone on from: the one asked about, or one above whose state is lost."""
    if proposal.is_too_long:
        return proposal.node_id
    return proposal.lost


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
