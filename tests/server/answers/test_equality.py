"""The equality pool on real worker processes: time limits, crashes, cancellation, and nothing left behind."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from search.outcomes import Verdict
from server.answers.equality import EqualityPool, EqualityUnavailable
from tests.descriptors import only_new_descriptors

ENDLESS = ("((x+y)^2+2z(x+y)+z^2)^{300}", "(x+y+z)^{600}")
"""Equal, and expanding it to prove that takes minutes."""
ALGEBRAIC = (r"\frac{1}{\sqrt2}", r"\frac{\sqrt{2}}{2}")
_ROOT = Path(__file__).parents[3]


def _is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _process_file(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _wait_until_gone(pid: int, timeout_s: float) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], timeout_s)[0])
    finally:
        os.close(descriptor)


async def _stopped_worker(equality: EqualityPool) -> int:
    """Starts the pool's worker and freezes it: from now on it answers nothing."""
    await equality.warm_up()
    (pid,) = equality.process_ids
    os.kill(pid, signal.SIGSTOP)
    return pid


async def test_what_exact_arithmetic_decides_starts_no_process() -> None:
    async with EqualityPool() as equality:
        assert await equality.same(" 1,000 ", "1e3") is Verdict.SAME
        assert await equality.same("12345678", "12345999") is Verdict.DIFFERENT
        assert await equality.same("not (readable", "not (readable") is Verdict.SAME
        assert await equality.same("__import__('os')", "5") is Verdict.UNKNOWN
        assert equality.process_ids == ()


async def test_algebra_is_done_in_a_worker_that_is_reused_and_gone_at_the_end() -> None:
    async with EqualityPool() as equality:
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME
        (pid,) = equality.process_ids
        assert await equality.same("x+c", "x+d") is Verdict.DIFFERENT
        assert await equality.same("x+d", "x+c") is Verdict.DIFFERENT
        assert equality.process_ids == (pid,)
    assert not _is_running(pid)


@pytest.mark.slow
async def test_a_comparison_that_takes_too_long_is_unknown_and_its_worker_replaced() -> None:
    async with EqualityPool(timeout_s=0.5) as equality:
        await equality.warm_up()
        (pid,) = equality.process_ids
        started = time.monotonic()
        assert await equality.same(*ENDLESS) is Verdict.UNKNOWN
        assert time.monotonic() - started < 5
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME
        assert equality.process_ids != (pid,)
    assert not _is_running(pid)


async def test_a_verdict_lost_to_the_time_limit_is_not_waited_for_again() -> None:
    async with EqualityPool(timeout_s=0.2) as equality:
        pid = await _stopped_worker(equality)
        assert await equality.same("x+1", "y+1") is Verdict.UNKNOWN
        assert await equality.same("y+1", "x+1") is Verdict.UNKNOWN
        assert set(equality.process_ids) <= {pid}


async def test_the_cache_forgets_the_oldest_pair_first() -> None:
    async with EqualityPool(timeout_s=60, cached_verdicts=2) as equality, asyncio.TaskGroup() as group:
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


async def test_a_worker_that_dies_while_comparing_makes_that_verdict_unknown() -> None:
    async with EqualityPool(timeout_s=60) as equality:
        pid = await _stopped_worker(equality)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            verdict = group.create_task(equality.same(*ALGEBRAIC))
            await _has_sent_its_request()
            os.kill(pid, signal.SIGKILL)
        assert verdict.result() is Verdict.UNKNOWN


async def _has_sent_its_request() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.slow
async def test_an_idle_worker_that_died_is_replaced() -> None:
    async with EqualityPool() as equality:
        await equality.warm_up()
        (pid,) = equality.process_ids
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while equality.process_ids:  # noqa: ASYNC110 - nothing announces the end of a process
                await asyncio.sleep(0)
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME


async def test_cancelling_a_comparison_kills_its_worker_and_the_pool_goes_on() -> None:
    async with EqualityPool(timeout_s=60) as equality:
        pid = await _stopped_worker(equality)
        async with asyncio.TaskGroup() as group:
            pending = group.create_task(equality.same(*ALGEBRAIC))
            await _has_sent_its_request()
            pending.cancel()
        assert pending.cancelled()
        assert _wait_until_gone(pid, timeout_s=5)
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME


async def test_cancelling_a_comparison_that_waits_for_a_worker_leaves_the_other_alone() -> None:
    async with EqualityPool(timeout_s=60) as equality:
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


async def test_cancelling_while_a_worker_starts_leaves_no_process() -> None:
    async with EqualityPool() as equality:
        async with asyncio.TaskGroup() as group:
            starting = group.create_task(equality.same(*ALGEBRAIC))
            while not equality.process_ids:  # noqa: ASYNC110 - nor its start
                await asyncio.sleep(0)
            (pid,) = equality.process_ids
            starting.cancel()
        assert _wait_until_gone(pid, timeout_s=5)


async def test_a_worker_that_still_starts_is_not_ready() -> None:
    async with EqualityPool() as equality, asyncio.TaskGroup() as group:
        starting = group.create_task(equality.warm_up())
        while not equality.process_ids:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0)
        (pid,) = equality.process_ids
        os.kill(pid, signal.SIGSTOP)
        assert not equality.is_ready
        os.kill(pid, signal.SIGCONT)
        await starting
        assert equality.is_ready


@pytest.mark.parametrize("descriptors", [0, 3])
async def test_a_server_that_is_out_of_descriptors_has_no_worker_for_a_while(descriptors: int) -> None:
    async with EqualityPool() as equality:
        with only_new_descriptors(descriptors), pytest.raises(EqualityUnavailable, match="Too many open files"):
            await equality.same(*ALGEBRAIC)
        assert equality.process_ids == ()
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME


async def test_workers_that_were_replaced_are_counted() -> None:
    async with EqualityPool(timeout_s=60) as equality:
        pid = await _stopped_worker(equality)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(60):
            while equality.is_ready:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0)
        assert equality.restarts == 0
        await equality.warm_up()
        assert equality.restarts == 1


async def test_never_more_processes_than_workers_allowed() -> None:
    async with EqualityPool(workers=2) as equality:
        async with asyncio.TaskGroup() as group:
            verdicts = [group.create_task(equality.same(f"x+{i}", f"x+{i}+0y")) for i in range(12)]
        assert {verdict.result() for verdict in verdicts} == {Verdict.SAME}
        pids = equality.process_ids
        assert 1 <= len(pids) <= 2
    assert not any(map(_is_running, pids))


@pytest.mark.slow
async def test_leaving_the_pool_by_an_exception_leaves_no_process() -> None:
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


async def test_a_closed_pool_starts_nothing_any_more() -> None:
    async with EqualityPool() as equality:
        pass
    with pytest.raises(EqualityUnavailable):
        await equality.same(*ALGEBRAIC)


def test_killing_the_parent_leaves_no_worker() -> None:
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
    assert _wait_until_gone(pid, timeout_s=5)


def test_a_worker_ends_when_its_input_ends() -> None:
    command = [sys.executable, "-m", "server.answers.worker", str(os.getpid()), "2", "1024"]
    request = json.dumps({"a": ALGEBRAIC[0], "b": ALGEBRAIC[1]}) + "\n"
    done = subprocess.run(command, cwd=_ROOT, input=request, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["ready", "same"]


async def test_a_worker_limits_its_memory_processor_time_and_files_and_inherits_no_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RSTAR_SECRET", "hush")
    async with EqualityPool(memory_mb=900) as equality:
        assert await equality.same(*ALGEBRAIC) is Verdict.SAME
        (pid,) = equality.process_ids
        limits = _process_file(pid, "limits").decode()
        environment = _process_file(pid, "environ")
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()}
    assert soft["Max address space"] == str(900 * 1024 * 1024)
    assert soft["Max file size"] == "0"
    assert int(soft["Max cpu time"]) < 60
    assert b"PYTHONPATH" in environment
    assert b"RSTAR_SECRET" not in environment
