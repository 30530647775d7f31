"""Store: what every store of trees promises, and the leases that let one search at a time grow a tree.

A tree's key has a value (see `entries`) and a version, which counts its commits. To write, a search takes the lease of
the key. Each lease has a higher fence than all earlier leases of the key, and a commit with an older fence is refused.
So a search that was paused, and lost its lease meanwhile, cannot overwrite what another has written since.

A store may be out of reach. It then raises `StoreUnavailable` soon, and works again by itself once it can.

Every key is forgotten some time after its last commit. A store may also forget a tree early, when it lacks room.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from server.trees.entries import Fingerprint


class LeaseLost(Exception):
    """Another search has, or had, the lease since: this one must not write any more."""


class StoreUnavailable(Exception):
    """The store cannot be reached, or refuses to work. The message is one sentence for the operator."""


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
    is_takeover: bool = False
    """Whether the one before was never given back: its process died, or was held up for too long."""


class TreeStore(Protocol):
    """Holds the trees of one server, or of several replicas. Every method may raise `StoreUnavailable`."""

    @property
    def fault(self) -> str | None:
        """Why it does not work now, in a sentence for the operator; None while it does. Never waits."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Open for as long as the store is used. Leaving ends its own work and its connections."""
        ...

    async def load(self, key: Fingerprint) -> StoredTree | None:
        """The last commit; None where there is none, or none any more."""
        ...

    def lease(self, key: Fingerprint) -> AbstractAsyncContextManager[Lease | None]:
        """Take the lease, and give it back on leaving. None while another search has it.

        If it is lost meanwhile, the body is cancelled and leaving raises `LeaseLost`. If the store gets out of reach
        meanwhile, the body goes on.
        """
        ...

    async def commit(self, lease: Lease, value: bytes) -> None:
        """Store the value as the next version, and begin the time to live anew. Raises `LeaseLost`.

        A caller that is cancelled meanwhile does not cancel the commit.
        """
        ...

    async def changed(self, key: Fingerprint, *, since: int) -> None:
        """Wait until there is a version after `since`, or nobody has the lease."""
        ...
