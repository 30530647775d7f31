"""The compute loop: calls cross from coroutines to a compute thread, and their answers come back.

A `ComputeThread` steps the loops that are attached to it, one after the other, away from the event loop. An
`EngineLoop` holds the calls of one model and answers each of them once. A `ThreadEngine` is what coroutines see of it.
Holds no model.
"""

import asyncio
import logging
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Self, TypeVar

import torch

from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.protocols import EngineStats, total
from server.engines.torch.openmp import default_threads

logger = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")
ItemT = TypeVar("ItemT")
CallT = TypeVar("CallT", bound="Call[Any]")

_IN_ONE_LANE = 32
"""Up to so many sequences stay together: two steps of half of them take as long side by side as one step of all, but
twice the processor time, which the PPM and the sandbox have use for."""


@dataclass(kw_only=True, eq=False)
class Call(Generic[ResultT]):
    """One call of an engine. A coroutine that leaves early cancels the future, and so abandons the call."""

    future: Future[ResultT] = field(default_factory=Future[ResultT])

    @property
    def is_abandoned(self) -> bool:
        """Whether the caller has left."""
        return self.future.cancelled()

    def answer(self, result: ResultT) -> None:
        with suppress(InvalidStateError):  # it was abandoned meanwhile
            self.future.set_result(result)

    def refuse(self, error: EngineError) -> None:
        with suppress(InvalidStateError):
            self.future.set_exception(error)


class EngineLoop(ABC, Generic[CallT]):
    """The work on one model, done in short steps.

    A call is held from the moment it is taken until it is answered or abandoned.
    """

    def __init__(self, counters: EngineStats | None = None) -> None:
        self.counters = counters or EngineStats()
        self.held: set[CallT] = set()
        """The calls held, also while a step works on them, so that a failure reaches their callers."""
        self.refusal: EngineError | None = None
        """Why no call is accepted; None while the engine works."""
        # Guards one invariant: a call is either in the queue or was refused, also when both happen at once.
        self._lock = threading.Lock()
        self._queue: deque[CallT] = deque()

    def put(self, call: CallT) -> None:
        """Queue a call, from any thread. Raises the refusal if there is one."""
        with self._lock:
            if self.refusal is not None:
                raise type(self.refusal)(*self.refusal.args) from self.refusal
            self._queue.append(call)

    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        return bool(self.held or self._queue)

    @abstractmethod
    def step(self) -> None:
        """Do some milliseconds of work, on the compute thread."""

    def refuse(self, error: EngineError) -> None:
        """Answer all calls, held and future ones, with `error`; on the compute thread."""
        with self._lock:
            self.refusal = error
            refused = [*self._queue, *self.held]
            self._queue.clear()
        self.held.clear()
        for call in refused:
            call.refuse(error)

    def take(self) -> CallT | None:
        """The next call in order of arrival, None where there is none."""
        if not self._queue:
            return None
        call = self._queue.popleft()
        self.counters.requests += 1
        self.held.add(call)
        return call

    def drop_abandoned(self) -> set[CallT]:
        """The calls that were abandoned since. They are no longer held."""
        abandoned = {call for call in self.held if call.is_abandoned}
        self.held -= abandoned
        self.counters.aborted += len(abandoned)
        return abandoned


class ComputeThread:
    """One thread that steps every attached loop in turn.

    Policy and PPM may share one, so that they do not fight for the same cores. It lives from the first `attach` to the
    last `detach`. A loop that raises is dropped, and refuses its calls; the others go on.
    """

    def __init__(self, *, threads: int | None = None) -> None:
        """`threads`: cores used inside a step; by default the usable ones, or 1 (see `server.engines.torch.openmp`)."""
        self.threads = threads or default_threads()
        self._changed = threading.Condition()
        self._loops: list[EngineLoop[Any]] = []
        self._leaving: list[EngineLoop[Any]] = []
        self._thread: threading.Thread | None = None

    def attach(self, loop: EngineLoop[Any]) -> None:
        """Start stepping `loop`."""
        with self._changed:
            self._loops.append(loop)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="engine-compute", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Look for work again, because a loop has got some."""
        with self._changed:
            self._changed.notify_all()

    async def detach(self, loop: EngineLoop[Any]) -> None:
        """Stop stepping `loop` after the step it is in, refuse the calls it holds. The last loop ends the thread."""
        await asyncio.to_thread(self._detach, loop)

    def _detach(self, loop: EngineLoop[Any]) -> None:
        with self._changed:
            thread = self._thread
            if loop in self._loops:
                self._leaving.append(loop)
                self._changed.notify_all()
                self._changed.wait_for(lambda: loop not in self._loops)
            is_ending = not self._loops
        if thread is not None and is_ending:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            while ready := self._wait_for_work():
                for loop in ready:
                    self.step(loop)

    def _wait_for_work(self) -> list[EngineLoop[Any]]:
        """The loops with something to do; empty when none is left and the thread is to end."""
        with self._changed:
            while True:
                for loop in self._leaving:
                    self._drop(loop, EngineClosed("the engine was closed"))
                self._leaving.clear()
                if not self._loops:
                    self._thread = None
                    return []
                if ready := [loop for loop in self._loops if loop.has_work()]:
                    return ready
                self._changed.wait()

    def step(self, loop: EngineLoop[Any]) -> None:
        """One step of one loop, on this thread."""
        try:
            loop.step()
        except Exception as error:  # The boundary: any exception of a step must reach the waiting callers.
            logger.exception("an engine failed")
            failure = EngineFailed(f"the engine's loop raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            traceback.clear_frames(error.__traceback__)  # the refusal keeps it, and their tensors with it
            with self._changed:
                self._drop(loop, failure)

    def _drop(self, loop: EngineLoop[Any], error: EngineError) -> None:
        if loop in self._loops:
            self._loops.remove(loop)
            loop.refuse(error)
            self._changed.notify_all()


def take_fitting(
    waiting: deque[ItemT],
    size: Callable[[ItemT], int],
    *,
    most: int,
    size_of_all: Callable[[Sequence[int]], int] = sum,
) -> list[ItemT]:
    """Take from the front as many as have this size together, and at least one where there is one.

    `size_of_all`: of items of these sizes together.
    """
    taken: list[ItemT] = []
    sizes: list[int] = []
    while waiting:
        sizes.append(size(waiting[0]))
        if taken and size_of_all(sizes) > most:
            break
        taken.append(waiting.popleft())
    return taken


@dataclass(slots=True)
class Lane:
    """A loop and the thread that runs it."""

    thread: ComputeThread
    loop: EngineLoop[Any]
    sequences: int = 0
    """Sequences requested and not answered."""


class ThreadEngine:
    """`server.engines.protocols.Engine`, except the model's own properties. Each call goes to one of the lanes."""

    def __init__(self, lanes: Sequence[Lane], *counters: EngineStats) -> None:
        """`counters`: counts of all lanes together, beside those of each lane."""
        self._lanes = lanes
        self._counters = (*counters, *(lane.loop.counters for lane in lanes))
        # Calls may come from several event loops: the count and the choice that rests on it belong together.
        self._choosing = threading.Lock()

    async def ask(self, call: Call[ResultT], *, sequences: int = 1) -> ResultT:
        """The answer to `call`. Cancelling abandons it."""
        lane = self._lane_for(sequences)
        try:
            lane.loop.put(call)
            lane.thread.wake()
            return await asyncio.wrap_future(call.future)
        finally:
            with self._choosing:
                lane.sequences -= sequences

    def _lane_for(self, sequences: int) -> Lane:
        with self._choosing:
            in_one = (lane for lane in self._lanes if lane.sequences + sequences <= _IN_ONE_LANE)
            lane = next(in_one, min(self._lanes, key=lambda lane: lane.sequences))
            lane.sequences += sequences
            return lane

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`. Being closed is no fault."""
        refusals = (lane.loop.refusal for lane in self._lanes)
        failure = next((refusal for refusal in refusals if isinstance(refusal, EngineFailed)), None)
        return None if failure is None else f"{failure}; see the log, and restart the server"

    @property
    def stats(self) -> EngineStats:
        return total([counters.snapshot() for counters in self._counters])

    async def __aenter__(self) -> Self:
        for lane in self._lanes:
            lane.thread.attach(lane.loop)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Refuse what is pending; calls from now on raise `EngineClosed`."""
        for lane in self._lanes:
            await lane.thread.detach(lane.loop)
