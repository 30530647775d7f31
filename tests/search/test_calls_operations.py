"""Operations: results one at a time, failures in their turn, nothing left behind."""

import asyncio

import pytest

from search.calls import Operations, operations
from search.tree import Tree


async def test_results_are_applied_in_the_order_of_finishing() -> None:
    applied: list[str] = []
    first, second = asyncio.Event(), asyncio.Event()

    async def late() -> str:
        await second.wait()
        return "late"

    async def early() -> str:
        await first.wait()
        return "early"

    async with asyncio.timeout(30), operations(Tree("p")) as calls:
        calls.start("late", late, then=applied.append)
        calls.start("early", early, then=applied.append)
        first.set()
        await calls.apply_next()
        assert applied == ["early"]
        second.set()
        await calls.apply_next()
    assert applied == ["early", "late"]


async def test_a_named_result_is_applied_before_others_that_are_ready() -> None:
    applied: list[str] = []

    async def say(word: str) -> str:
        return word

    async with asyncio.timeout(30), operations(Tree("p")) as calls:
        calls.start("one", lambda: say("one"), then=applied.append)
        calls.start("two", lambda: say("two"), then=applied.append)
        await calls.apply_next("two")
        await calls.apply_next("one")
    assert applied == ["two", "one"]


async def never() -> str:
    await asyncio.Event().wait()
    raise AssertionError


async def test_nothing_is_applied_before_it_is_asked_for() -> None:
    applied: list[str] = []

    async def say() -> str:
        return "done"

    async with asyncio.timeout(30), operations(Tree("p")) as calls:
        calls.start("one", say, then=applied.append)
        for _ in range(5):
            await asyncio.sleep(0)
        assert applied == []


async def fail() -> str:
    raise ConnectionError("engine is gone")


async def test_a_failure_is_raised_before_the_awaited_result() -> None:
    async def searching() -> None:
        async with asyncio.timeout(30), operations(Tree("p")) as calls:
            calls.start("stalls", never, then=print)
            calls.start("fails", fail, then=print)
            await calls.apply_next("stalls")

    with pytest.raises(ConnectionError, match="engine is gone"):
        await searching()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_operation_that_cancels_itself_ends_the_wait() -> None:
    async def give_up() -> str:
        raise asyncio.CancelledError

    async def think(calls: Operations) -> None:
        calls.start("gives up", give_up, then=print)
        await calls.apply_next()

    async def searching() -> None:
        async with asyncio.timeout(30), operations(Tree("p")) as calls:
            await think(calls)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        task = group.create_task(searching())
    assert task.cancelled()


async def test_leaving_cancels_operations_begun_and_not_yet_begun() -> None:
    ended: list[str] = []

    async def stall() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("stall")
        raise AssertionError

    async with asyncio.timeout(30), operations(Tree("p")) as calls:
        calls.start("begun", stall, then=print)
        await asyncio.sleep(0)
        calls.start("not begun", stall, then=print)
    assert ended == ["stall"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
