"""Memory: the store of trees within one process. Holds a bounded number of bytes; what was used least goes first."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from time import monotonic

from server.trees.entries import Fingerprint
from server.trees.store import Lease, LeaseLost, StoredTree

ENTRY_BYTES = 500
"""What an entry takes beside its value: its key, times and places in two tables."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    stored: StoredTree
    expires_s: float

    @property
    def size(self) -> int:
        return ENTRY_BYTES + len(self.stored.value)


class MemoryTreeStore:
    """See `TreeStore`. Its leases end only when they are given back: nobody else could take them over."""

    def __init__(self, *, max_bytes: int, ttl_s: float, now: Callable[[], float] = monotonic) -> None:
        """A tree is forgotten `ttl_s` after its last commit. A tree larger than `max_bytes` is not held at all."""
        self._max_bytes = max_bytes
        self._ttl_s = ttl_s
        self._now = now
        self._entries: OrderedDict[Fingerprint, _Entry] = OrderedDict()
        """The one used last is last."""
        self._fence = 0
        self._fences: dict[Fingerprint, int] = {}
        """Of the leases that are taken."""
        self._change = asyncio.Event()
        """Set, and replaced by another, at each change."""
        self.fault: str | None = None
        """Always None."""
        self.size = 0
        """Bytes held."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """See `TreeStore.running`. There is nothing to open or to end."""
        return nullcontext()

    @property
    def trees(self) -> int:
        """Trees held, those included whose time is over but that nobody has asked for since."""
        return len(self._entries)

    async def load(self, key: Fingerprint) -> StoredTree | None:
        """See `TreeStore.load`."""
        entry = self._live(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry.stored

    @asynccontextmanager
    async def lease(self, key: Fingerprint) -> AsyncGenerator[Lease | None]:
        """See `TreeStore.lease`."""
        if key in self._fences:
            yield None
            return
        self._fence += 1
        self._fences[key] = self._fence
        try:
            yield Lease(key=key, fence=self._fence, version=self._version(key))
        finally:
            del self._fences[key]
            self._announce()

    async def commit(self, lease: Lease, value: bytes) -> None:
        """See `TreeStore.commit`."""
        if self._fences.get(lease.key) != lease.fence:
            raise LeaseLost(f"the lease with fence {lease.fence} was given back")
        lease.version += 1
        self._remove(lease.key)
        entry = _Entry(
            stored=StoredTree(value=value, version=lease.version),
            expires_s=self._now() + self._ttl_s,
        )
        if entry.size <= self._max_bytes:
            self._entries[lease.key] = entry
            self.size += entry.size
            self._make_room()
        self._announce()

    async def changed(self, key: Fingerprint, *, since: int) -> None:
        """See `TreeStore.changed`."""
        while key in self._fences and self._version(key) <= since:
            await self._change.wait()

    def _announce(self) -> None:
        self._change.set()
        self._change = asyncio.Event()

    def _version(self, key: Fingerprint) -> int:
        entry = self._live(key)
        return 0 if entry is None else entry.stored.version

    def _live(self, key: Fingerprint) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.expires_s <= self._now():
            self._remove(key)
            return None
        return entry

    def _make_room(self) -> None:
        while self.size > self._max_bytes:
            self._remove(next(iter(self._entries)))

    def _remove(self, key: Fingerprint) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size
