"""Mending: a part that breaks is started again, and tells what is wrong for as long as it is."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from server.parts.fakes import fake_parts, opening, serve
from server.parts.mending import Mender, at_work
from server.parts.serving import Part

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
async def _looked_after(
    part: Breakable,
    *,
    patience_s: float = LONG_S,
    start_limit_s: float = LONG_S,
    steady_s: float = LONG_S,
    delays_s: Sequence[float] = (0.001,),
) -> AsyncGenerator[Mender]:
    mender = Mender(
        Part.SANDBOX,
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
    async with asyncio.timeout(LONG_S), at_work([mender]):
        yield mender


async def _until(is_so: Callable[[], bool]) -> None:
    """Nobody is told of a fault that comes or goes: readiness asks."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_a_part_that_ends_is_started_again_and_nobody_is_told() -> None:
    part = Breakable()
    async with _looked_after(part) as mender:
        part.may_start.clear()
        part.is_up = False
        await part.was_started.wait()
        assert mender.fault is None
        part.may_start.set()
        await _until(lambda: part.is_up and mender.fault is None)
    assert part.starts == 1


async def test_a_start_that_takes_long_is_a_fault_until_it_is_done() -> None:
    part = Breakable()
    async with _looked_after(part, patience_s=0.0) as mender:
        part.may_start.clear()
        part.is_up = False
        await _until(lambda: mender.fault is not None)
        assert mender.fault == "it ended, and starting it again takes long"
        part.may_start.set()
        await _until(lambda: part.is_up and mender.fault is None)
    assert part.starts == 1


async def test_one_that_works_and_has_others_before_us_is_not_at_fault() -> None:
    part = Breakable()
    async with _looked_after(part, patience_s=0.0) as mender:
        part.may_start.clear()
        part.is_up = False
        await part.was_started.wait()
        part.is_up = True  # started by a search, which also has it now
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert mender.fault is None


async def test_a_start_without_end_is_given_up_and_made_anew() -> None:
    part = Breakable()
    async with _looked_after(part, start_limit_s=0.001) as mender:
        part.may_start.clear()
        part.is_up = False
        await _until(lambda: part.starts >= 3)
        assert mender.fault == "it ended, and starting it again took longer than 0 s"
        part.may_start.set()
        await _until(lambda: part.is_up and mender.fault is None)


def _warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_every_end_is_logged_whoever_started_the_part_again(caplog: pytest.LogCaptureFixture) -> None:
    part = Breakable()
    async with _looked_after(part):
        part.is_up = False
        await _until(lambda: len(_warnings(caplog)) == 1)
        part.restarts += 1  # a search found it dead, and was quicker
        await _until(lambda: len(_warnings(caplog)) == 2)
    assert _warnings(caplog) == [f"sandbox ended and was started again; restarts so far: {n}" for n in (1, 2)]


async def test_a_part_that_ends_again_soon_is_left_alone_for_longer(caplog: pytest.LogCaptureFixture) -> None:
    part = Breakable()
    async with _looked_after(part, delays_s=(0.0, 0.0, LONG_S)) as mender:
        for restarts in (1, 2):
            part.is_up = False
            await _until(lambda expected=restarts: len(_warnings(caplog)) == expected)
        part.is_up = False
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert (part.starts, mender.fault) == (2, None)  # whoever needs it starts it


async def test_a_part_that_stayed_up_for_a_while_is_started_at_once_again(caplog: pytest.LogCaptureFixture) -> None:
    part = Breakable()
    async with _looked_after(part, delays_s=(0.0, LONG_S), steady_s=0.0):
        for restarts in (1, 2, 3):
            part.is_up = False
            await _until(lambda expected=restarts: len(_warnings(caplog)) == expected)
    assert part.starts == 3


@pytest.mark.parametrize("obstacle", [Down("no room"), OSError("no room")])
async def test_one_that_cannot_be_started_is_tried_again_until_it_can(obstacle: Exception) -> None:
    part = Breakable()
    part.obstacle = obstacle
    async with _looked_after(part) as mender:
        part.is_up = False
        await _until(lambda: part.starts == 3)
        assert mender.fault is not None
        assert "no room" in mender.fault
        part.obstacle = None
        await _until(lambda: part.is_up and mender.fault is None)


async def test_a_call_that_fails_is_noticed_though_the_part_seems_to_be_up() -> None:
    part = Breakable()
    async with _looked_after(part) as mender:
        part.may_start.clear()
        with pytest.raises(Down), mender.noticing():
            raise Down("no room")
        assert mender.fault == "no room"
        part.may_start.set()
        await _until(lambda: part.is_up and mender.fault is None)
    assert part.starts == 1


async def test_other_errors_of_a_call_say_nothing_of_the_part() -> None:
    async with _looked_after(Breakable()) as mender:
        with pytest.raises(ValueError, match="bad"), mender.noticing():
            raise ValueError("bad")
        assert mender.fault is None


@pytest.mark.parametrize("part", list(Part))
async def test_readiness_names_the_part_that_is_broken_until_it_works_again(part: Part) -> None:
    faults: dict[Part, str] = {}
    async with serve(opening(fake_parts(faults=faults))) as served:
        faults[part] = "out of processes"
        broken = await served.client.get("/readyz")
        refused = await served.client.post("/solve", json={"problem": "1+2"})
        faults.clear()
        mended = await served.client.get("/readyz")
    assert (broken.status_code, refused.status_code, mended.status_code) == (503, 503, 200)
    states = broken.json()["parts"]
    assert states == {**dict.fromkeys(map(str, Part), "ready"), str(part): "out of processes"}
    assert "out of processes" in refused.json()["detail"]
    assert mended.json()["ready"]
