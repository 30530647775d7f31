"""The supervisor: starts, deaths and restarts of a fake engine."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from server.engines.errors import CheckpointError, EngineClosed, EngineFailed
from server.engines.vllm.supervisor import Supervisor

AT_ONCE = (0.0, 0.0)


@dataclass(slots=True)
class Fake:
    """An engine that can be told to die."""

    is_dead: bool = False
    stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        self.stopped.set()


def starting(*outcomes: Fake | Exception) -> Callable[[], Fake]:
    """Starts these engines one after the other; an exception is a start that fails."""
    left: Iterator[Fake | Exception] = iter(outcomes)

    def start() -> Fake:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return start


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  # the supervisor's thread tells nobody in between
        await asyncio.sleep(0.001)


async def test_an_engine_is_current_from_open_to_close() -> None:
    engine = Fake()
    supervisor = Supervisor(starting(engine), name="policy")
    with pytest.raises(EngineClosed, match="not open"):
        _ = supervisor.current
    await supervisor.open()
    assert supervisor.current is engine
    assert supervisor.fault is None
    await supervisor.close()
    assert engine.stopped.is_set()
    assert (supervisor.restarts, supervisor.fault) == (0, None)
    with pytest.raises(EngineClosed, match="the policy's engine was closed"):
        _ = supervisor.current


async def test_a_dead_engine_is_stopped_and_replaced() -> None:
    first, second = Fake(), Fake()
    supervisor = Supervisor(starting(first, second), name="policy", delays_s=AT_ONCE)
    await supervisor.open()
    first.is_dead = True
    supervisor.look()
    await until(lambda: supervisor.fault is None and supervisor.restarts == 1)
    assert supervisor.current is second
    assert first.stopped.is_set()
    await supervisor.close()


async def test_while_it_is_started_again_there_is_a_fault_and_requests_are_refused() -> None:
    first, second, go = Fake(), Fake(), threading.Event()

    def start_second() -> Fake:
        go.wait()
        return second

    starts = iter((starting(first), start_second))

    def start() -> Fake:
        return next(starts)()

    supervisor = Supervisor(start, name="ppm", delays_s=AT_ONCE)
    await supervisor.open()
    first.is_dead = True
    supervisor.look()
    await until(lambda: supervisor.fault is not None)
    assert supervisor.fault == "the ppm's engine died and is being started again"
    with pytest.raises(EngineFailed, match="being started again"):
        _ = supervisor.current
    go.set()
    await until(lambda: supervisor.fault is None)
    assert supervisor.current is second
    await supervisor.close()


async def test_a_first_start_that_fails_is_told_and_not_repeated() -> None:
    for error, expected in ((CheckpointError("no such folder"), CheckpointError), (OSError("no memory"), EngineFailed)):
        supervisor = Supervisor(starting(error), name="policy")
        with pytest.raises(expected, match=str(error)):
            await supervisor.open()
        assert supervisor.restarts == 0


async def test_a_restart_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    first, third = Fake(), Fake()
    supervisor = Supervisor(starting(first, OSError("no memory"), third), name="policy", delays_s=AT_ONCE)
    await supervisor.open()
    first.is_dead = True
    supervisor.look()
    await until(lambda: supervisor.fault is None and supervisor.restarts == 2)
    assert supervisor.current is third
    assert "could not be started again" in caplog.text
    await supervisor.close()


async def test_an_engine_that_dies_again_and_again_is_started_ever_more_seldom() -> None:
    engines = [Fake(is_dead=True) for _ in range(3)]
    supervisor = Supervisor(starting(*engines), name="policy", delays_s=(0.0, 0.0, 0.0, 3600.0))
    await supervisor.open()
    await until(lambda: supervisor.restarts == 2 and engines[-1].stopped.is_set())
    assert all(engine.stopped.is_set() for engine in engines)
    assert supervisor.fault is not None
    await supervisor.close()


async def test_an_engine_that_lived_long_is_restarted_at_once_when_it_dies() -> None:
    clock = iter(range(0, 100_000, 3600))
    engines = [Fake(is_dead=True) for _ in range(5)]
    supervisor = Supervisor(
        starting(*engines, Fake()), name="policy", delays_s=(0.0, 0.0, 3600.0), now=lambda: float(next(clock))
    )
    await supervisor.open()
    await until(lambda: supervisor.restarts == 5 and supervisor.fault is None)
    await supervisor.close()


async def test_closing_interrupts_a_start() -> None:
    entered, interrupted = threading.Event(), threading.Event()

    def start() -> Fake:
        entered.set()
        interrupted.wait()
        raise OSError("killed")

    supervisor = Supervisor(start, name="policy", interrupt=interrupted.set)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(supervisor.open())
        await asyncio.to_thread(entered.wait)
        opening.cancel()
    assert interrupted.is_set()
    assert "policy-supervisor" not in {thread.name for thread in threading.enumerate()}
