"""The equality pool on real worker processes: time limits, crashes, cancellation, no process left behind."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from search.outcomes import Verdict
from server.answers.equality import EqualityPool, EqualityUnavailable
from tests.descriptors import only_new_descriptors

ENDLESS = ("((x+y)^2+2z(x+y)+z^2)^{300}", "(x+y+z)^{600}")
"""Equal, and expanding it to prove that takes minutes."""
ALGEBRAIC = (r"\frac{1}{\sqrt2}", r"\frac{\sqrt{2}}{2}")
_ROOT = Path(__file__).parents[3]
_PATIENCE_S = 60.0
"""A limit that is only reached where something is broken, even on a busy machine."""


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _process_file(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _ends(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], _PATIENCE_S)[0])
    finally:
        os.close(descriptor)


async def _until(condition: Callable[[], bool]) -> None:
    """Nothing announces the start or the end of a process."""
    async with asyncio.timeout(_PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def _stopped_worker(equality: EqualityPool) -> int:
    """Starts the pool's worker and freezes it: from now on it answers nothing."""
    await equality.warm_up()
    (pid,) = equality.process_ids
    os.kill(pid, signal.SIGSTOP)
    return pid


async def test_exact_arithmetic_starts_no_process() -> None:
    async with EqualityPool() as equality:
        assert await equality.same(" 1,000 ", "1e3") is Verdict.SAME
        assert await equality.same("12345678", "12345999") is Verdict.DIFFERENT
        assert await equality.same("not (readable", "not (readable") is Verdict.SAME
        assert await equality.same("__import__('os')", "5") is Verdict.UNKNOWN
        assert equality.process_ids == ()


async def test_algebra_reuses_one_worker_and_ends_it_at_the_end() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME
        (pid,) = equality.process_ids
        assert await equality.same("x+c", "x+d") is Verdict.DIFFERENT
        assert await equality.same("x+d", "x+c") is Verdict.DIFFERENT
        assert equality.process_ids == (pid,)
    assert not _is_running(pid)


@pytest.mark.slow
async def test_late_comparison_is_unknown_and_its_worker_replaced() -> None:
    async with EqualityPool(timeout_s=0.5) as equality:
        await equality.warm_up()
        (pid,) = equality.process_ids
        async with asyncio.timeout(_PATIENCE_S):
            assert await equality.same(*ENDLESS) is Verdict.UNKNOWN
        await equality.warm_up()
        assert equality.process_ids not in ((), (pid,))
    assert not _is_running(pid)


async def test_verdict_lost_to_the_time_limit_is_cached() -> None:
    async with EqualityPool(timeout_s=0.2) as equality:
        pid = await _stopped_worker(equality)
        assert await equality.same("x+1", "y+1") is Verdict.UNKNOWN
        assert await equality.same("y+1", "x+1") is Verdict.UNKNOWN
        assert set(equality.process_ids) <= {pid}


async def test_full_cache_drops_the_oldest_pair() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S, cached_verdicts=2) as equality, asyncio.TaskGroup() as group:
        pair = ("x+1", "y+1")
        assert await equality.same(*pair) is Verdict.DIFFERENT
        (pid,) = equality.process_ids
        os.kill(pid, signal.SIGSTOP)
        await equality.same("1", "2")
        assert await equality.same(*pair) is Verdict.DIFFERENT
        await equality.same("1", "2")
        await equality.same("1", "3")
        asking = group.create_task(equality.same(*pair))
        await _has_sent_its_request()
        assert not asking.done()  # it needs the worker, which answers nothing
        asking.cancel()


async def test_worker_that_dies_while_comparing_gives_unknown() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        pid = await _stopped_worker(equality)
        async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
            verdict = group.create_task(equality.same(*ALGEBRAIC))
            await _has_sent_its_request()
            os.kill(pid, signal.SIGKILL)
        assert verdict.result() is Verdict.UNKNOWN


async def _has_sent_its_request() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.slow
async def test_idle_worker_that_died_is_replaced() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        await equality.warm_up()
        (pid,) = equality.process_ids
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: equality.process_ids == ())
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME


async def test_cancelled_comparison_kills_its_worker_only() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        pid = await _stopped_worker(equality)
        async with asyncio.TaskGroup() as group:
            pending = group.create_task(equality.same(*ALGEBRAIC))
            await _has_sent_its_request()
            pending.cancel()
        assert pending.cancelled()
        assert _ends(pid)
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME


async def test_cancelled_wait_for_a_worker_leaves_it_running() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        pid = await _stopped_worker(equality)
        async with asyncio.TaskGroup() as group:
            working = group.create_task(equality.same(*ALGEBRAIC))
            await _has_sent_its_request()
            waiting = group.create_task(equality.same("x+1", "y+1"))
            await _has_sent_its_request()
            waiting.cancel()
            os.kill(pid, signal.SIGCONT)
        assert waiting.cancelled()
        assert working.result() is Verdict.SAME
        assert equality.process_ids == (pid,)


async def test_cancelled_start_of_a_worker_leaves_no_process() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(equality.same(*ALGEBRAIC))
            await _until(lambda: equality.process_ids != ())
            (pid,) = equality.process_ids
            starting.cancel()
        assert _ends(pid)


async def test_worker_that_is_starting_is_not_ready() -> None:
    async with EqualityPool() as equality, asyncio.TaskGroup() as group:
        starting = group.create_task(equality.warm_up())
        await _until(lambda: equality.process_ids != ())
        (pid,) = equality.process_ids
        os.kill(pid, signal.SIGSTOP)
        assert not equality.is_ready
        os.kill(pid, signal.SIGCONT)
        await starting
        assert equality.is_ready


@pytest.mark.parametrize("descriptors", [0, 3])
async def test_no_descriptors_left_is_unavailable_until_some_are(descriptors: int) -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        with only_new_descriptors(descriptors), pytest.raises(EqualityUnavailable, match="Too many open files"):
            await equality.same(*ALGEBRAIC)
        assert equality.process_ids == ()
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME


async def test_replaced_workers_are_counted() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        pid = await _stopped_worker(equality)
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: not equality.is_ready)
        assert equality.restarts == 0
        await equality.warm_up()
        assert equality.restarts == 1


async def test_pool_never_runs_more_processes_than_allowed() -> None:
    async with EqualityPool(workers=2, timeout_s=_PATIENCE_S) as equality:
        async with asyncio.TaskGroup() as group:
            verdicts = [group.create_task(equality.same(f"x+{i}", f"x+{i}+0y")) for i in range(12)]
        assert {verdict.result() for verdict in verdicts} == {Verdict.SAME}
        pids = equality.process_ids
        assert 1 <= len(pids) <= 2
    assert not any(map(_is_running, pids))


@pytest.mark.slow
async def test_exception_inside_the_pool_leaves_no_process() -> None:
    pids: list[int] = []

    async def fail() -> None:
        async with EqualityPool() as equality:
            await equality.warm_up()
            pids.extend(equality.process_ids)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert len(pids) == 1
    assert not _is_running(pids[0])


async def test_closed_pool_starts_no_worker() -> None:
    async with EqualityPool(timeout_s=_PATIENCE_S) as equality:
        pass
    with pytest.raises(EqualityUnavailable):
        await equality.same(*ALGEBRAIC)


def test_killed_parent_leaves_no_worker() -> None:
    source = (
        "import asyncio, json, sys\n"
        "from server.answers.equality import EqualityPool\n"
        "async def main():\n"
        "    async with EqualityPool() as equality:\n"
        "        await equality.warm_up()\n"
        "        print(json.dumps(equality.process_ids), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", source], cwd=_ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        (pid,) = json.loads(parent.stdout.readline())
        assert _is_running(pid)
        parent.kill()
    assert _ends(pid)


def test_worker_ends_when_its_input_ends() -> None:
    command = [sys.executable, "-m", "server.answers.worker", str(os.getpid()), "2", "1024"]
    request = json.dumps({"a": ALGEBRAIC[0], "b": ALGEBRAIC[1]}) + "\n"
    done = subprocess.run(
        command, cwd=_ROOT, input=request, stdout=subprocess.PIPE, text=True, timeout=_PATIENCE_S, check=True
    )
    assert done.stdout.split() == ["ready", "same"]


async def test_worker_has_limits_and_inherits_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RSTAR_SECRET", "hush")
    async with EqualityPool(memory_mb=900, timeout_s=20) as equality:
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME
        (pid,) = equality.process_ids
        limits = _process_file(pid, "limits").decode()
        environment = _process_file(pid, "environ")
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert soft["Max address space"] == str(900 * 1024 * 1024)
    assert soft["Max file size"] == "0"
    assert int(soft["Max cpu time"]) < 120
    assert b"PYTHONPATH" in environment
    assert b"RSTAR_SECRET" not in environment
