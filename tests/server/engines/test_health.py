"""Health watch: a broken part is restarted, and shows a fault until it works."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import pytest

from server.engines.health import HealthWatch, watching
from tests.server.engines.waiting import until

LONG_S = 60.0
"""Never waited for: only keeps a broken test from hanging."""


class Down(Exception):
    """The part cannot be started."""


class Breakable:
    """A part that can be broken, and starts only when it may."""

    def __init__(self) -> None:
        self.is_up = True
        self.starts = 0
        self.restarts = 0
        self.obstacle: Exception | None = None
        self.may_start = asyncio.Event()
        self.may_start.set()
        self.was_started = asyncio.Event()

    async def start(self) -> None:
        self.starts += 1
        self.was_started.set()
        await self.may_start.wait()
        if self.obstacle is not None:
            raise self.obstacle
        self.restarts += not self.is_up
        self.is_up = True

    def call(self) -> None:
        if not self.is_up:
            raise Down("no room")


@asynccontextmanager
async def _watched(
    part: Breakable,
    *,
    patience_s: float = LONG_S,
    start_limit_s: float = LONG_S,
    steady_s: float = LONG_S,
    delays_s: Sequence[float] = (0.001,),
) -> AsyncGenerator[HealthWatch]:
    watch = HealthWatch(
        "sandbox",
        is_up=lambda: part.is_up,
        start=part.start,
        restarts=lambda: part.restarts,
        unavailable=Down,
        look_s=0.001,
        patience_s=patience_s,
        start_limit_s=start_limit_s,
        steady_s=steady_s,
        delays_s=delays_s,
    )
    async with asyncio.timeout(LONG_S), watching([watch]):
        yield watch


async def test_a_part_that_restarts_quickly_shows_no_fault() -> None:
    part = Breakable()
    async with _watched(part) as watch:
        part.may_start.clear()
        part.is_up = False
        await part.was_started.wait()
        assert watch.fault is None
        part.may_start.set()
        await until(lambda: part.is_up and watch.fault is None)
    assert part.starts == 1


async def test_a_slow_restart_is_a_fault_until_it_is_done() -> None:
    part = Breakable()
    async with _watched(part, patience_s=0.0) as watch:
        part.may_start.clear()
        part.is_up = False
        await until(lambda: watch.fault is not None)
        assert watch.fault == "it ended, and starting it again takes long"
        part.may_start.set()
        await until(lambda: part.is_up and watch.fault is None)
    assert part.starts == 1


async def test_a_part_restarted_by_a_caller_shows_no_fault() -> None:
    part = Breakable()
    async with _watched(part, patience_s=0.0) as watch:
        part.may_start.clear()
        part.is_up = False
        await part.was_started.wait()
        part.is_up = True  # started by a search, which also has it now
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert watch.fault is None


async def test_a_restart_that_hangs_is_cancelled_and_repeated() -> None:
    part = Breakable()
    async with _watched(part, start_limit_s=0.001) as watch:
        part.may_start.clear()
        part.is_up = False
        await until(lambda: part.starts >= 3)
        assert watch.fault == "it ended, and starting it again took longer than 0 s"
        part.may_start.set()
        await until(lambda: part.is_up and watch.fault is None)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_every_restart_is_logged_whoever_made_it(caplog: pytest.LogCaptureFixture) -> None:
    part = Breakable()
    async with _watched(part):
        part.is_up = False
        await until(lambda: len(_warnings(caplog)) == 1)
        part.restarts += 1  # a search found it dead, and was quicker
        await until(lambda: len(_warnings(caplog)) == 2)
    assert _warnings(caplog) == [f"sandbox ended and was started again; restarts so far: {n}" for n in (1, 2)]


async def test_a_part_that_ends_repeatedly_restarts_less_often(caplog: pytest.LogCaptureFixture) -> None:
    part = Breakable()
    async with _watched(part, delays_s=(0.0, 0.0, LONG_S)) as watch:
        for restarts in (1, 2):
            part.is_up = False
            await until(lambda expected=restarts: len(_warnings(caplog)) == expected)
        part.is_up = False
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert (part.starts, watch.fault) == (2, None)  # a caller that needs it starts it


async def test_a_part_that_was_up_long_restarts_at_once(caplog: pytest.LogCaptureFixture) -> None:
    part = Breakable()
    async with _watched(part, delays_s=(0.0, LONG_S), steady_s=0.0):
        for restarts in (1, 2, 3):
            part.is_up = False
            await until(lambda expected=restarts: len(_warnings(caplog)) == expected)
    assert part.starts == 3


@pytest.mark.parametrize("obstacle", [Down("no room"), OSError("no room")])
async def test_a_failed_restart_is_repeated_until_it_succeeds(
    obstacle: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    part = Breakable()
    part.obstacle = obstacle
    async with _watched(part) as watch:
        part.is_up = False
        await until(lambda: part.starts == 3)
        assert watch.fault is not None
        assert "no room" in watch.fault
        assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [obstacle]
        part.obstacle = None
        await until(lambda: part.is_up and watch.fault is None)


async def test_a_failed_call_is_a_fault_though_the_part_seems_up() -> None:
    part = Breakable()
    async with _watched(part) as watch:
        part.may_start.clear()
        with pytest.raises(Down), watch.calling():
            raise Down("no room")
        assert watch.fault == "no room"
        part.may_start.set()
        await until(lambda: part.is_up and watch.fault is None)
    assert part.starts == 1


async def test_other_errors_of_a_call_are_no_fault() -> None:
    async with _watched(Breakable()) as watch:
        with pytest.raises(ValueError, match="bad"), watch.calling():
            raise ValueError("bad")
        assert watch.fault is None
