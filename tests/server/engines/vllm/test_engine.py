"""One vLLM engine: starts, deaths, restarts and its end. With a stand-in for vLLM."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path as FilePath
from typing import cast

import pytest

from search.protocols import Path
from server.engines.errors import EngineClosed, EngineError, EngineFailed
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from server.engines.vllm.engine import VllmEngine
from server.engines.vllm.watchdog import MARK, marked
from tests.server.engines.vllm.fake_llm import FakeLlm, fake_policy
from tests.server.engines.waiting import BOUND_S, until

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")


def starting(*outcomes: FakeLlm | Exception) -> Callable[[], FakeLlm]:
    """Starts these engines one after the other; an exception is a start that fails."""
    left: Iterator[FakeLlm | Exception] = iter(outcomes)

    def construct() -> FakeLlm:
        outcome = next(left)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return construct


def inner(engine: PolicyEngine) -> VllmEngine:
    return cast(VllmEngine, engine.completer)


async def refusal(engine: PolicyEngine) -> EngineError | None:
    try:
        await engine.policy(Sampling()).propose(Path(problem="1+2"), 1, seed=0)
    except EngineError as error:
        return error
    return None


async def test_an_engine_serves_between_entering_and_leaving(policy_folder: FilePath) -> None:
    llm = FakeLlm()
    engine = fake_policy(starting(llm), policy_folder)
    assert str(await refusal(engine)) == "the policy's engine is not open"
    async with engine:
        assert await refusal(engine) is None
        assert engine.fault is None
    assert isinstance(await refusal(engine), EngineClosed)
    assert str(await refusal(engine)) == "the policy's engine was closed"
    assert (llm.shutdowns, inner(engine).restarts, engine.fault) == (1, 0, None)


async def test_an_idle_engine_that_dies_is_replaced(policy_folder: FilePath) -> None:
    first, second = FakeLlm(), FakeLlm()
    async with fake_policy(starting(first, second), policy_folder) as engine:
        first.errored = True
        await until(lambda: inner(engine).restarts == 1 and engine.fault is None)
        assert await refusal(engine) is None
    assert (first.shutdowns, second.shutdowns) == (1, 1)
    assert len(second.labels) == 2


async def test_a_request_that_fails_on_a_live_engine_is_no_fault(policy_folder: FilePath) -> None:
    llm = FakeLlm()
    async with fake_policy(starting(llm), policy_folder) as engine:
        llm.fails_once = True
        failure = await refusal(engine)
        assert engine.fault is None
        assert isinstance(failure, EngineFailed)
        assert str(failure) == "the policy's engine failed at the request, but goes on"
        assert await refusal(engine) is None
        assert (inner(engine).restarts, llm.shutdowns) == (0, 0)


async def test_a_dead_engine_is_a_fault_while_its_restart_waits(policy_folder: FilePath) -> None:
    llm = FakeLlm()
    async with fake_policy(starting(llm), policy_folder) as engine:
        llm.errored = True
        assert engine.fault == "the policy's engine died and is being started again"
    assert engine.fault is None


async def test_a_restarted_engine_takes_requests_once_it_is_proven(policy_folder: FilePath) -> None:
    first, second = FakeLlm(), FakeLlm()
    second.may_answer.clear()
    async with fake_policy(starting(first, second), policy_folder) as engine:
        first.errored = True
        await until(lambda: bool(second.labels))
        assert isinstance(await refusal(engine), EngineFailed)
        assert engine.fault is not None
        second.may_answer.set()
        await until(lambda: engine.fault is None)
        assert await refusal(engine) is None
    assert len(second.labels) == 2


async def test_requests_fail_while_an_engine_starts_again(policy_folder: FilePath) -> None:
    first, second, go = FakeLlm(), FakeLlm(), threading.Event()
    engines = iter((first, second))

    def construct() -> FakeLlm:
        llm = next(engines)
        assert llm is first or go.wait(BOUND_S)
        return llm

    async with fake_policy(construct, policy_folder) as engine, asyncio.TaskGroup() as group:
        first.labels.clear()
        first.may_answer.clear()
        waiting = group.create_task(refusal(engine))
        await until(lambda: bool(first.labels))
        first.errored = True
        await until(lambda: engine.fault == "the policy's engine died and is being started again")
        assert isinstance(await waiting, EngineFailed)
        assert isinstance(await refusal(engine), EngineFailed)
        go.set()
        await until(lambda: engine.fault is None)
        assert await refusal(engine) is None


async def test_a_failed_first_start_is_raised_and_not_repeated(policy_folder: FilePath) -> None:
    engine = fake_policy(starting(OSError("no memory"), FakeLlm()), policy_folder)
    with pytest.raises(EngineFailed, match="policy's engine could not be started: OSError: no memory"):
        await engine.__aenter__()
    assert inner(engine).restarts == 0


async def test_an_engine_that_fails_its_first_request_does_not_start(policy_folder: FilePath) -> None:
    llm = FakeLlm()
    llm.errored = True
    with pytest.raises(EngineFailed, match="could not be started: Dead"):
        await fake_policy(starting(llm), policy_folder).__aenter__()
    assert llm.shutdowns == 1


async def test_a_failed_restart_is_repeated(policy_folder: FilePath, caplog: pytest.LogCaptureFixture) -> None:
    first, third = FakeLlm(), FakeLlm()
    async with fake_policy(starting(first, OSError("no memory"), third), policy_folder) as engine:
        first.errored = True
        await until(lambda: inner(engine).restarts == 1 and engine.fault is None)
        assert await refusal(engine) is None
    assert "could not be started: OSError: no memory" in caplog.text


async def test_closing_fails_the_requests_in_flight(policy_folder: FilePath) -> None:
    llm = FakeLlm()
    async with asyncio.TaskGroup() as group:
        async with fake_policy(starting(llm), policy_folder) as engine:
            llm.labels.clear()
            llm.may_answer.clear()
            waiting = group.create_task(refusal(engine))
            await until(lambda: bool(llm.labels))
        assert isinstance(await waiting, EngineClosed)


async def test_cancelling_a_start_ends_its_processes(policy_folder: FilePath) -> None:
    """vLLM waits for its processes on a thread, which cannot be cancelled."""

    def construct() -> FakeLlm:
        command, environment = ["sleep", "600"], {**os.environ, MARK: inner(engine).mark}
        subprocess.run(command, env=environment, check=True)
        return FakeLlm()

    engine = fake_policy(construct, policy_folder)
    async with asyncio.TaskGroup() as group:
        opening = group.create_task(engine.__aenter__())
        await until(lambda: bool(marked(inner(engine).mark)))
        opening.cancel()
    assert marked(inner(engine).mark) == []
    assert opening.cancelled()
