"""The real sandbox and the real answer checker, killed and kept from restarting: readiness reports it."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
import pytest

from sandbox import Sandbox
from search import Verdict
from server.answers.equality import EqualityPool
from server.engines.health import watching
from server.parts.fakes import fake_parts, opening
from server.parts.opening import RestartingEquality, RestartingSandbox
from server.parts.runner import STEP_LIMITS
from server.parts.serving import Part
from tests.descriptors import only_new_descriptors
from tests.server.serving import Served, serve

pytestmark = pytest.mark.slow

BOUND_S = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenParts:
    sandbox: Sandbox
    pool: EqualityPool
    served: Served

    async def readiness(self) -> httpx.Response:
        return await self.served.client.get("/readyz")

    async def until(self, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Polls readiness, since there is no event."""
        while not await is_so():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def is_ready(self) -> bool:
        return (await self.readiness()).status_code == 200

    async def is_not_ready(self) -> bool:
        return not await self.is_ready()


@asynccontextmanager
async def _open() -> AsyncGenerator[OpenParts]:
    async with asyncio.timeout(BOUND_S), Sandbox(limits=STEP_LIMITS) as sandbox, EqualityPool() as pool:
        await pool.warm_up()
        runner, equality = RestartingSandbox(sandbox), RestartingEquality(pool)
        watches = (runner.watch, equality.watch)
        parts = replace(
            fake_parts(),
            equality=equality,
            open_runner=runner.open_runner,
            faults=lambda: {Part(watch.part): watch.fault for watch in watches if watch.fault is not None},
            sandbox_status=lambda: sandbox.status,
            equality_restarts=lambda: pool.restarts,
        )
        async with watching(watches), serve(opening(parts)) as served:
            yield OpenParts(sandbox=sandbox, pool=pool, served=served)


async def test_killed_parts_are_started_again_before_anybody_asks() -> None:
    async with _open() as parts:
        launcher, worker = parts.sandbox.zygote_pid, parts.pool.process_ids[0]
        assert launcher is not None
        os.kill(launcher, signal.SIGKILL)
        os.kill(worker, signal.SIGKILL)

        async def are_others() -> bool:
            workers = parts.pool.process_ids
            return parts.sandbox.zygote_pid not in (None, launcher) and bool(workers) and worker not in workers

        await parts.until(are_others)
        async with asyncio.timeout(BOUND_S):
            while not parts.pool.is_ready:  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.02)
        page = (await parts.served.client.get("/metrics")).text.splitlines()
        assert {"rstar_sandbox_restarts_total 1.0", "rstar_equality_restarts_total 1.0"} <= set(page)


async def test_a_sandbox_that_cannot_start_is_named_with_its_level() -> None:
    async with _open() as parts:
        launcher = parts.sandbox.zygote_pid
        assert launcher is not None
        with only_new_descriptors(0):
            os.kill(launcher, signal.SIGKILL)
            await parts.until(parts.is_not_ready)
            readiness = (await parts.readiness()).json()
            refused = await parts.served.client.post("/solve", json={"problem": "1+2"})
        assert readiness["parts"]["sandbox"] == "no zygote can be started: [Errno 24] Too many open files"
        assert {readiness["parts"][part] for part in ("policy", "ppm", "equality")} == {"ready"}
        assert readiness["sandbox_level"] == parts.sandbox.status.level
        assert (refused.status_code, refused.json()["type"]) == (503, "urn:rstar:problem:not-ready")
        await parts.until(parts.is_ready)
        assert (await parts.served.client.post("/solve", json={"problem": "1+2"})).status_code == 200


async def test_an_answer_checker_that_cannot_start_again_is_named() -> None:
    async with _open() as parts:
        with only_new_descriptors(0):
            os.kill(parts.pool.process_ids[0], signal.SIGKILL)
            await parts.until(parts.is_not_ready)
            readiness = (await parts.readiness()).json()
        assert readiness["parts"]["equality"] == "no worker can be started: [Errno 24] Too many open files"
        assert readiness["parts"]["sandbox"] == "ready"
        await parts.until(parts.is_ready)
        assert await parts.pool.same("x**2 - 1", "(x-1)*(x+1)") is Verdict.SAME


async def test_an_answer_checker_whose_start_hangs_is_named() -> None:
    async with _open() as parts:
        (first,) = parts.pool.process_ids
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(BOUND_S):
            while parts.pool.process_ids in ((), (first,)):  # noqa: ASYNC110  # no event
                await asyncio.sleep(0)
        (second,) = parts.pool.process_ids
        os.kill(second, signal.SIGSTOP)
        await parts.until(parts.is_not_ready)
        readiness = (await parts.readiness()).json()
        assert readiness["parts"]["equality"] == "it ended, and starting it again takes long"
        os.kill(second, signal.SIGCONT)
        await parts.until(parts.is_ready)
