"""Workers: items done by several processes, each result on disk as soon as it is there.

A `Work` says how one item is done. `run_work` does every item whose result is not in the folder yet, so that a run that
was killed goes on where it stopped and loses only the items in flight. Each process appends to a file of its own, and
ends with the run that started it, even if that is killed. With one process and one item at a time the file is the same
as that of an unbroken run. Knows nothing of models.
"""

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.records import appending, whole_lines

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)

Result = dict[str, Any]
"""What doing an item gives: a JSON object."""

_PR_SET_PDEATHSIG = 1
_POLL_S = 1.0
_LOG_EVERY_S = 60.0


class WorkFailed(Exception):
    """An item could not be done, or a worker process was killed. Finished items are kept."""


class Work(Protocol[Item_contra]):
    """How items are done. Travels to the worker processes, so it can be pickled: paths and settings, no open models."""

    def open(self) -> AbstractAsyncContextManager[Callable[[Item_contra], Awaitable[Result]]]:
        """Opened once in each process; yields the function that does one item."""
        ...


def run_work(
    work: Work[Item], items: Mapping[str, Item], folder: Path, *, processes: int, concurrency: int, label: str
) -> None:
    """Do the items, by key, that `folder` has no result of: `concurrency` at a time in each of `processes`.

    One process is this one. The first failure ends all work; from other processes it comes as `WorkFailed`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    finished = Results(folder)
    missing = [(key, item) for key, item in items.items() if key not in finished]
    started_s = time.monotonic()
    if not missing:
        pass  # nothing is opened
    elif processes == 1:
        _do_here(work, missing, folder, concurrency=concurrency, label=label)
    else:
        _do_in_workers(work, missing, folder, processes=processes, concurrency=concurrency, label=label)
    logger.info("%s: %d of %d done now, in %.0f s", label, len(missing), len(items), time.monotonic() - started_s)


class Results(Mapping[str, Result]):
    """The results in a folder by key, in no particular order. Keeps their places in memory and reads them from disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, tuple[Path, int]] = {}
        self._read: dict[Path, int] = {}
        self.refresh()

    def refresh(self) -> None:
        """Find results that were added since."""
        for file in sorted(self._folder.glob("part-*.jsonl")):
            for offset, line in whole_lines(file, start=self._read.get(file, 0)):
                self._places[_key(line)] = (file, offset)
                self._read[file] = offset + len(line)

    def __getitem__(self, key: str) -> Result:
        file, offset = self._places[key]
        with file.open("rb") as lines:
            lines.seek(offset)
            return json.loads(lines.readline())["result"]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _key(line: bytes) -> str:
    return json.JSONDecoder().raw_decode(line.decode(), len('{"key": '))[0]


def _do_here(
    work: Work[Item], missing: Sequence[tuple[str, Item]], folder: Path, *, concurrency: int, label: str
) -> None:
    with _Progress(label, of=len(missing)) as progress:
        asyncio.run(_do_items(work, missing, folder / "part-0.jsonl", concurrency, progress.advance))


def _do_in_workers(
    work: Work[Item],
    missing: Sequence[tuple[str, Item]],
    folder: Path,
    *,
    processes: int,
    concurrency: int,
    label: str,
) -> None:
    workers: list[_Worker] = []
    results = Results(folder)
    before = len(results)
    try:
        for number in range(min(processes, len(missing))):
            file = folder / f"part-{number}.jsonl"
            workers.append(_Worker(partial(_do_items, work, missing[number::processes], file, concurrency)))
        running = {worker.sentinel: worker for worker in workers}
        with _Progress(label, of=len(missing)) as progress:
            while running:
                for ended in wait(running, timeout=_POLL_S):
                    assert isinstance(ended, int)
                    if (failure := running.pop(ended).failure()) is not None:
                        raise WorkFailed(
                            f"{label}: {failure}. Finished items are kept: the same command goes on from there"
                        )
                results.refresh()
                progress.advance(len(results) - before - progress.done)
    finally:
        for worker in workers:
            worker.kill()


class _Progress:
    """A bar on a terminal; elsewhere a line in the log from time to time."""

    def __init__(self, label: str, *, of: int) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty())
        self._bar = self._bars.add_task(label, total=of)
        self._label, self._of = label, of
        self._started_s = self._logged_s = time.monotonic()
        self.done = 0
        """Items done since the beginning."""

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def advance(self, items: int = 1) -> None:
        """So many more are done."""
        self.done += items
        self._bars.advance(self._bar, items)
        now = time.monotonic()
        if self._bars.disable and self.done and now - self._logged_s >= _LOG_EVERY_S:
            self._logged_s = now
            left_s = (now - self._started_s) / self.done * (self._of - self.done)
            logger.info("%s: %d of %d, about %.0f min left", self._label, self.done, self._of, left_s / 60)


class _Worker:
    """A process started afresh (torch and the sandbox do not survive a fork), and what it says when it fails."""

    def __init__(self, do: Callable[[], Coroutine[Any, Any, None]]) -> None:
        context = get_context("spawn")
        self._message, send = context.Pipe(duplex=False)
        self._process = context.Process(target=_run_worker, args=(do, send, os.getpid()))
        self._process.start()
        send.close()

    @property
    def sentinel(self) -> int:
        """Ready when the process has ended."""
        return self._process.sentinel

    def failure(self) -> str | None:
        """Why the process, which has ended, did not do its share; None where it did."""
        self._process.join()
        if self._process.exitcode == 0:
            return None
        try:
            return self._message.recv()
        except EOFError:
            return f"a worker process was killed (exit code {self._process.exitcode}; out of memory?)"

    def kill(self) -> None:
        """End the process, if it still runs."""
        self._process.kill()
        self._process.join()


def _run_worker(do: Callable[[], Coroutine[Any, Any, None]], send: Connection, parent: int) -> None:
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before the line above
        os._exit(1)
    try:
        asyncio.run(do())
    except KeyboardInterrupt:  # the run that started this process gets it too
        sys.exit(1)
    except Exception as error:
        send.send(f"{type(error).__name__}: {error}")
        raise


async def _do_items(
    work: Work[Item],
    share: Sequence[tuple[str, Item]],
    file: Path,
    concurrency: int,
    done: Callable[[], None] = lambda: None,
) -> None:
    """Do the items and append each result."""
    with appending(file) as append:
        async with work.open() as do:

            async def one(keyed: tuple[str, Item]) -> None:
                key, item = keyed
                append({"key": key, "result": await do(item)})
                done()

            try:
                await run_concurrently(share, one, concurrency=concurrency)
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from failures


async def run_concurrently(items: Iterable[Item], work: Callable[[Item], Awaitable[None]], *, concurrency: int) -> None:
    """Do `work` for every item, `concurrency` at a time; the first failure ends them all."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(worker())
