"""Work runs concurrently and in other processes, which end with the run that started them, even if it is killed."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from training.workers import Result, Results, WorkFailed, run_concurrently, run_work

ROOT = Path(__file__).parents[2]
RUN = """
import asyncio, os, sys
from contextlib import asynccontextmanager
from pathlib import Path
from training.workers import run_work

class Sleep:
    @asynccontextmanager
    async def open(self):
        print(os.getpid(), flush=True)
        yield lambda _: asyncio.sleep(600)

if __name__ == "__main__":
    run_work(Sleep(), {"a": 1, "b": 2}, Path(sys.argv[1]), processes=2, concurrency=1, label="sleep")
"""


async def test_no_more_items_are_worked_on_than_asked_for() -> None:
    active, most, done = 0, 0, set[int]()

    async def work(item: int) -> None:
        nonlocal active, most
        active += 1
        most = max(most, active)
        await asyncio.sleep(0)
        active -= 1
        done.add(item)

    await run_concurrently(range(10), work, concurrency=3)
    assert (most, done) == (3, set(range(10)))


async def test_the_first_failure_ends_all_work() -> None:
    async def work(item: int) -> None:
        if item == 1:
            raise ValueError("item 1")
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await run_concurrently(range(10), work, concurrency=2)


@pytest.mark.slow
def test_a_killed_run_leaves_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "results"], stdout=subprocess.PIPE, text=True, env=environment
    ) as run:
        assert run.stdout is not None
        workers = [int(run.stdout.readline()) for _ in range(2)]
        watched = [os.pidfd_open(pid) for pid in workers]
        run.send_signal(signal.SIGKILL)
        gone = [bool(select.select([descriptor], [], [], 60)[0]) for descriptor in watched]
    for descriptor in watched:
        os.close(descriptor)
    assert all(gone)


@dataclass(frozen=True, slots=True)
class Squares:
    """Squares numbers; fails, or kills its process, at `bad`."""

    bad: int | None = None
    kills: bool = False

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[int], Awaitable[Result]]]:
        async def square(number: int) -> Result:
            if number == self.bad:
                if self.kills:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ValueError(f"cannot square {number}")
            return {"square": number * number}

        yield square


def squares_of(numbers: Iterable[int]) -> dict[str, int]:
    return {f"n{number}": number for number in numbers}


def do(work: Squares, count: int, folder: Path, *, processes: int = 1) -> None:
    run_work(work, squares_of(range(count)), folder, processes=processes, concurrency=1, label="squares")


@pytest.mark.slow
def test_each_item_is_done_once_by_several_processes(tmp_path: Path) -> None:
    do(Squares(), 7, tmp_path, processes=2)
    lines = [line for file in tmp_path.iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == 7
    assert {key: result["square"] for key, result in Results(tmp_path).items()} == {f"n{n}": n * n for n in range(7)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "reason"),
    [(Squares(bad=3, kills=True), "process was killed"), (Squares(bad=3), "ValueError: cannot square 3")],
)
def test_a_run_goes_on_from_the_last_finished_item(tmp_path: Path, work: Squares, reason: str) -> None:
    with pytest.raises(WorkFailed, match=reason):
        do(work, 8, tmp_path, processes=2)
    first = (tmp_path / "part-1.jsonl").read_bytes()
    assert first == b'{"key": "n1", "result": {"square": 1}}\n'
    with (tmp_path / "part-1.jsonl").open("ab") as file:
        file.write(b'{"key": "n3", "result": {"squ')
    do(Squares(), 8, tmp_path, processes=2)
    assert (tmp_path / "part-1.jsonl").read_bytes().startswith(first)
    assert {key: result["square"] for key, result in Results(tmp_path).items()} == {f"n{n}": n * n for n in range(8)}


def test_one_by_one_a_broken_run_ends_like_a_whole_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot square 3"):
        do(Squares(bad=3), 6, tmp_path / "broken")
    do(Squares(), 6, tmp_path / "broken")
    do(Squares(), 6, tmp_path / "whole")
    broken, whole = ((tmp_path / name / "part-0.jsonl").read_bytes() for name in ("broken", "whole"))
    assert broken == whole


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    do(Squares(), 2, tmp_path)
    do(Squares(bad=0, kills=True), 2, tmp_path)
    assert len(Results(tmp_path)) == 2
