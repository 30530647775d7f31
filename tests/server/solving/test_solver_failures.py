"""Solver: parts that fail, ignore cancellation or do not close. Every search has one ending, which is counted once."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from sandbox import SandboxUnavailable
from search import Candidate, CodeRunner, Path
from search.testing.fakes import ArithmeticRunner
from server.answers.equality import EqualityUnavailable
from server.engines.errors import EngineError, RemoteRefused
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.parts.serving import Part, ServingParts
from server.settings.settings import Settings
from server.solving.refusals import Refusal, RefusalKind
from server.solving.searches import RunningSearch
from server.solving.solver import Solver
from tests.server.serving import a_request, serve

REQUEST = a_request()


async def test_a_part_that_cancels_itself_has_failed() -> None:
    class Cancelling:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise asyncio.CancelledError

    async with serve(opening(fake_parts(policy=Cancelling()))) as served, asyncio.timeout(10):
        ending = await served.solver.start(REQUEST, search_id="s1").ending()
        page = served.solver.metrics.page().decode()
    assert isinstance(ending, Refusal)
    assert ending.kind is RefusalKind.SEARCH_FAILED
    assert 'outcome="failed"' in page


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineError("the engine died"), RefusalKind.NOT_READY),
        (SandboxUnavailable("no process to be had"), RefusalKind.NOT_READY),
        (EqualityUnavailable("no process to be had"), RefusalKind.NOT_READY),
        (RemoteRefused("asking again would not help"), RefusalKind.SEARCH_FAILED),
        (ValueError("1+2 is no problem"), RefusalKind.SEARCH_FAILED),
    ],
)
async def test_only_a_part_that_may_recover_is_worth_a_retry(
    error: Exception, kind: RefusalKind, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise error

    caplog.set_level("INFO")
    async with serve(opening(fake_parts(policy=Failing()))) as served, asyncio.timeout(10):
        ending = await served.solver.start(REQUEST, search_id="s1").ending()
    assert isinstance(ending, Refusal)
    assert (ending.kind, ending.retry_after_s is not None) == (kind, kind is RefusalKind.NOT_READY)
    assert type(error).__name__ in caplog.text
    assert "1+2" not in caplog.text


async def test_a_runner_that_does_not_open_costs_the_time_allowed() -> None:
    @asynccontextmanager
    async def open_runner(seed: int) -> AsyncGenerator[CodeRunner]:
        await asyncio.Event().wait()
        yield ArithmeticRunner()

    request = a_request(timeout_s=0.05)
    parts = dataclasses.replace(fake_parts(), open_runner=open_runner)
    async with serve(opening(parts)) as served, asyncio.timeout(10):
        ending = await served.solver.start(request, search_id="s1").ending()
    assert isinstance(ending, Refusal)
    assert ending.kind is RefusalKind.NOT_READY


async def test_parts_that_do_not_close_are_no_failure_to_start(caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def open_parts(_: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        yield fake_parts()
        raise OSError("cannot close")

    failures: list[str] = []
    ready = asyncio.Event()
    solver = Solver(open_parts, Settings(), on_ready=ready.set, on_failure=failures.append)
    async with asyncio.timeout(10), solver.running():
        await ready.wait()
    assert failures == []
    assert "did not close" in caplog.text


async def test_a_search_that_does_not_end_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    asked, let_go, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Clinging:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            asked.set()
            while not let_go.is_set():
                with suppress(asyncio.CancelledError):
                    await let_go.wait()
            return []

    @asynccontextmanager
    async def open_parts(_: Callable[[Part], None]) -> AsyncGenerator[ServingParts]:
        yield fake_parts(policy=Clinging())
        closed.set()

    ready = asyncio.Event()
    solver = Solver(open_parts, Settings(), on_ready=ready.set, last_bound_s=0.05)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:

        async def serve_once() -> RunningSearch:
            async with solver.running():
                await ready.wait()
                running = solver.start(REQUEST, search_id="s1")
                await asked.wait()
            return running

        serving = group.create_task(serve_once())
        await closed.wait()
        (line,) = [record for record in caplog.records if "does not end" in record.message]
        assert "s1" in line.message
        assert not serving.done()
        let_go.set()
        ending = await (await serving).ending()
    assert isinstance(ending, Refusal)
    assert ending.kind is RefusalKind.STOPPING


class FailingPolicy:
    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        raise EngineError("the engine died")


async def test_only_searches_that_end_by_themselves_are_typical() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        cancelled = served.solver.start(REQUEST, search_id="s1")
        await policy.entered.wait()
        cancelled.ask_to_end()
        await cancelled.ending()
        policy.gate.set()
        whole = served.solver.start(REQUEST, search_id="s2")
        await whole.ending()
    async with serve(opening(fake_parts(policy=FailingPolicy()))) as served, asyncio.timeout(10):
        failed = served.solver.start(REQUEST, search_id="s3")
        await failed.ending()
    assert [one.is_typical for one in (cancelled, whole, failed)] == [False, True, False]
