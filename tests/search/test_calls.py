"""Listening: every call of every part is heard, in the task that makes it, and nothing else changes."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace

import pytest

from search import Candidate, Execution, ExecutionOutcome, Path, PathTooLong, Snapshot, Verdict
from search.calls import (
    Call,
    CallKind,
    EqualityCall,
    JudgeCall,
    PolicyCall,
    RunnerCall,
    ScorerCall,
    listening,
)
from search.testing.fakes import AnswerKey, ScriptedPolicy, arithmetic_parts

PATH = Path(problem="1+2")


def noting(heard: list[str], name: str = "") -> Callable[[Call], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def listen(call: Call) -> AsyncGenerator[None]:
        heard.append(f"{name}enter {call.kind}")
        try:
            yield
        except BaseException as error:
            heard.append(f"{name}{type(error).__name__} from {call.kind}")
            raise
        heard.append(f"{name}exit {call.kind}")

    return listen


async def test_each_kind_of_call_is_heard_with_arguments_and_result() -> None:
    calls: list[Call] = []

    @asynccontextmanager
    async def listen(call: Call) -> AsyncGenerator[None]:
        yield
        calls.append(call)

    parts = listening(arithmetic_parts(0.0, judge=AnswerKey("3")), listen)
    assert parts.scorer is not None
    assert parts.judge is not None
    candidates = await parts.policy.propose(PATH, 2, seed=7)
    execution = await parts.runner.run(None, "total = 1")
    scores = await parts.scorer.score([PATH])
    verdict = await parts.equality.same("1", "2")
    value = await parts.judge.value("3")

    proposing, running, scoring, comparing, judging = calls
    assert isinstance(proposing, PolicyCall)
    assert (proposing.path, proposing.n, proposing.seed, proposing.result) == (PATH, 2, 7, candidates)
    assert isinstance(running, RunnerCall)
    assert (running.parent, running.code, running.result) == (None, "total = 1", execution)
    assert isinstance(scoring, ScorerCall)
    assert (scoring.paths, scoring.result) == ([PATH], scores)
    assert isinstance(comparing, EqualityCall)
    assert (comparing.a, comparing.b, comparing.result) == ("1", "2", verdict)
    assert isinstance(judging, JudgeCall)
    assert (judging.answer, judging.result) == ("3", value)
    assert [call.kind for call in calls] == list(CallKind)
    assert (execution.outcome, verdict, value) == (ExecutionOutcome.OK, Verdict.DIFFERENT, 1.0)


async def test_the_first_listener_is_closest_to_the_part() -> None:
    heard: list[str] = []
    parts = listening(arithmetic_parts(), noting(heard, "near: "), noting(heard, "far: "))
    await parts.equality.same("1", "1")
    assert heard == ["far: enter equality", "near: enter equality", "near: exit equality", "far: exit equality"]


async def test_an_exception_is_heard_and_comes_out_as_raised() -> None:
    class Short:
        async def propose(self, path: Path, n: int, *, seed: int) -> list[Candidate]:
            raise PathTooLong("no room")

    heard: list[str] = []
    parts = listening(replace(arithmetic_parts(), policy=Short()), noting(heard))
    with pytest.raises(PathTooLong, match="no room"):
        await parts.policy.propose(PATH, 1, seed=0)
    assert heard == ["enter policy", "PathTooLong from policy"]


async def test_a_cancellation_is_heard_and_has_no_result() -> None:
    begun = asyncio.Event()

    class Slow:
        async def run(self, parent: Snapshot | None, code: str) -> Execution:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

    heard: list[str] = []
    parts = listening(replace(arithmetic_parts(), runner=Slow()), noting(heard))
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        call = group.create_task(parts.runner.run(None, "total = 1"))
        await begun.wait()
        call.cancel()
    assert heard == ["enter runner", "CancelledError from runner"]


async def test_a_context_variable_set_on_enter_is_seen_by_the_part() -> None:
    span: ContextVar[str] = ContextVar("span", default="outside")
    seen: list[str] = []

    @asynccontextmanager
    async def spanning(call: Call) -> AsyncGenerator[None]:
        token = span.set("inside")
        yield
        span.reset(token)

    class Looking:
        async def same(self, a: str, b: str) -> Verdict:
            seen.append(span.get())
            return Verdict.SAME

    parts = listening(replace(arithmetic_parts(), equality=Looking()), spanning)
    await parts.equality.same("1", "1")
    assert (seen, span.get()) == (["inside"], "outside")


def test_parts_without_listeners_are_returned_as_they_are() -> None:
    parts = arithmetic_parts()
    assert listening(parts) is parts


def test_a_missing_scorer_and_judge_stay_missing() -> None:
    parts = replace(arithmetic_parts(), policy=ScriptedPolicy({}), scorer=None, judge=None)
    heard = listening(parts, noting([]))
    assert (heard.scorer, heard.judge) == (None, None)
