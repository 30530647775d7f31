"""In flight: what the rollouts under way mean for the choice of the next one. Never changes the tree.

**Virtual loss**: a rollout counts, for selection only, as a visit of value -1 at every node it has come to, until it is
backed up or given up. The loss is kept here and not in the tree, so that a tree never holds the loss of a rollout that
was cancelled or failed.

**Room**: a node that is being expanded is nobody else's to expand. A second rollout that comes its way does not wait
for it, but turns off where there is something left to do: waiting would hold a place in flight with nothing to show to
the engines, and the children it would wait for attract the next rollout anyway. So a rollout is only begun where there
is room, and once begun it meets nobody: it goes on through children that it made itself.
"""

from collections.abc import Iterable

from search.tree import Node, NodeId, Tree

VIRTUAL_VALUE = -1.0
"""The worst a trajectory can be worth: it drives rollouts apart the most."""


class InFlight:
    """The rollouts under way in one tree."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._losses: dict[NodeId, int] = {}
        self._expanding: set[NodeId] = set()
        self._without_room: set[NodeId] = set()

    def losses(self, node_id: NodeId) -> int:
        """Rollouts under way that have come to the node."""
        return self._losses.get(node_id, 0)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left of any rollout."""
        return not self._losses and not self._expanding

    def has_room(self, node_id: NodeId) -> bool:
        """Whether another rollout could expand a node, or end at one, at `node_id` or below."""
        return node_id not in self._without_room and not self._tree[node_id].is_finished

    def enter(self, node_id: NodeId) -> None:
        """A rollout has come to the node."""
        self._losses[node_id] = self.losses(node_id) + 1

    def leave(self, path: Iterable[NodeId]) -> None:
        """The rollout that came along `path` is over."""
        for node_id in path:
            left = self._losses.pop(node_id) - 1
            if left:
                self._losses[node_id] = left

    def begin_expansion(self, node_id: NodeId) -> None:
        """The node is being expanded: keep others away."""
        self._expanding.add(node_id)
        self.update(node_id)

    def end_expansion(self, node_id: NodeId) -> None:
        """Its children are there, or it was given up."""
        self._expanding.discard(node_id)
        self.update(node_id)

    def update(self, node_id: NodeId) -> None:
        """Look again where there is room, from the node up, after it changed."""
        above: NodeId | None = node_id
        while above is not None:
            node = self._tree[above]
            is_full = self._is_full(node)
            if is_full == (above in self._without_room) and above != node_id:
                return
            if is_full:
                self._without_room.add(above)
            else:
                self._without_room.discard(above)
            above = node.parent

    def _is_full(self, node: Node) -> bool:
        if node.is_finished or node.id in self._expanding:
            return True
        return bool(node.children) and not any(self.has_room(child) for child in node.children)
