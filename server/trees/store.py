"""Store: what every store of trees promises, and the leases that let one search at a time grow a tree.

A tree's key has a value (see `entries`) and a version, which counts its commits. To write, a search takes the lease of
the key. Each lease has a higher fence than all earlier leases of the key, and a commit with an older fence is refused.
So a search that was paused, and lost its lease meanwhile, cannot overwrite what another has written since.

Every key is forgotten some time after its last commit. A store may also forget a tree early, when it lacks room.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from server.trees.entries import Fingerprint


class LeaseLost(Exception):
    """Another search has, or had, the lease since: this one must not write any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTree:
    """A tree as it was committed last."""

    value: bytes
    version: int
    """Commits so far; the first one makes version 1."""


@dataclass(slots=True, kw_only=True, eq=False)
class Lease:
    """The right to write the tree of one key."""

    key: Fingerprint
    fence: int
    """Higher than that of every earlier lease of the key."""
    version: int
    """The version in the store when the lease was taken, and after each commit; 0 where there is no tree."""


class TreeStore(Protocol):
    """Holds the trees of one server, or of several replicas."""

    async def load(self, key: Fingerprint) -> StoredTree | None:
        """The last commit; None where there is none, or none any more."""
        ...

    def lease(self, key: Fingerprint) -> AbstractAsyncContextManager[Lease | None]:
        """Take the lease, and give it back on leaving. None while another search has it."""
        ...

    async def commit(self, lease: Lease, value: bytes) -> None:
        """Store the value as the next version, and begin the time to live anew. Raises `LeaseLost`."""
        ...
