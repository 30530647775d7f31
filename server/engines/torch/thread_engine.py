"""The thread engine: what engines share whose model is the one workload of a compute thread. Knows no model."""

from typing import Any, Protocol, Self, TypeVar

from server.engines.errors import EngineFailed
from server.engines.stats import EngineCounters, EngineStats
from server.engines.torch.compute import ComputeThread, Workload
from server.engines.torch.inbox import Inbox, Reply

ResultT = TypeVar("ResultT")


class InboxWorkload(Workload, Protocol):
    """Takes its work from an inbox."""

    @property
    def inbox(self) -> Inbox[Any]: ...

    @property
    def counters(self) -> EngineCounters: ...


class ThreadEngine:
    """`server.engines.protocols.Engine`, but for the model's own properties."""

    def __init__(self, thread: ComputeThread, loop: InboxWorkload) -> None:
        self._thread = thread
        self._loop = loop

    async def ask(self, work: object, reply: Reply[ResultT]) -> ResultT:
        """Hand over `work`, which holds `reply`, and wait for that. Cancelling abandons it."""
        self._loop.inbox.put(work)
        self._thread.wake()
        return await reply.wait()

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return fault_of(self._loop.inbox)

    @property
    def stats(self) -> EngineStats:
        return self._loop.counters.snapshot()

    async def __aenter__(self) -> Self:
        self._thread.attach(self._loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse what is pending; requests from now on raise `EngineClosed`."""
        await self._thread.detach(self._loop)


def fault_of(inbox: Inbox[Any]) -> str | None:
    """What an engine that refuses so has to say for itself. Being closed is no fault."""
    if not isinstance(inbox.refusal, EngineFailed):
        return None
    return f"{inbox.refusal}; see the log, and restart the server"
