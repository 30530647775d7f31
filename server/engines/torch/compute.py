"""The compute thread: runs the engines' work, one piece after the other, away from the event loop.

Policy and PPM may share one thread, so that they do not fight for the same cores. The thread lives from the first
`attach` to the last `detach`. A workload that raises is failed and dropped; the others go on. Holds no model.
"""

import asyncio
import logging
import threading
from typing import Protocol

import torch

from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.torch.openmp import default_threads

logger = logging.getLogger(__name__)


class Workload(Protocol):
    """Something to compute in short steps. Called on the compute thread only."""

    def has_work(self) -> bool:
        """Whether `step` has something to do."""
        ...

    def step(self) -> None:
        """Do a piece of work of some milliseconds."""
        ...

    def refuse(self, error: EngineError) -> None:
        """Answer everything held, and everything to come, with `error`."""
        ...


class ComputeThread:
    """One thread that steps every attached workload in turn."""

    def __init__(self, *, threads: int | None = None) -> None:
        """`threads`: cores used inside a step; by default the usable ones, or 1 (see `server.engines.torch.openmp`)."""
        self.threads = threads or default_threads()
        self._changed = threading.Condition()
        self._workloads: list[Workload] = []
        self._leaving: list[Workload] = []
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def attach(self, workload: Workload) -> None:
        """Start stepping `workload`."""
        with self._changed:
            self._workloads.append(workload)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="engine-compute", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Look for work again: a workload was given some."""
        with self._changed:
            self._changed.notify_all()

    async def detach(self, workload: Workload) -> None:
        """Stop stepping `workload` after the step it is in, refuse what it holds; the last one ends the thread."""
        await asyncio.to_thread(self._detach, workload)

    def _detach(self, workload: Workload) -> None:
        with self._changed:
            thread = self._thread
            if workload in self._workloads:
                self._leaving.append(workload)
                self._changed.notify_all()
                self._changed.wait_for(lambda: workload not in self._workloads)
            is_ending = not self._workloads
        if thread is not None and is_ending:
            thread.join()

    def _run(self) -> None:
        torch.set_num_threads(self.threads)
        with torch.inference_mode():
            while ready := self._wait_for_work():
                for workload in ready:
                    self._step(workload)

    def _wait_for_work(self) -> list[Workload]:
        """The workloads with something to do; empty when none is left and the thread is to end."""
        with self._changed:
            while True:
                for workload in self._leaving:
                    self._drop(workload, EngineClosed("the engine was closed"))
                self._leaving.clear()
                if not self._workloads:
                    self._thread = None
                    return []
                if ready := [workload for workload in self._workloads if workload.has_work()]:
                    return ready
                self._changed.wait()

    def _step(self, workload: Workload) -> None:
        try:
            workload.step()
        except Exception as error:  # The boundary: whatever a step raises must reach the waiting callers.
            logger.exception("an engine failed")
            failure = EngineFailed(f"the engine's loop raised {type(error).__name__}: {error}")
            failure.__cause__ = error
            with self._changed:
                self._drop(workload, failure)

    def _drop(self, workload: Workload, error: EngineError) -> None:
        if workload in self._workloads:
            self._workloads.remove(workload)
            workload.refuse(error)
            self._changed.notify_all()
