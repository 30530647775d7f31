"""Admission: slots, the bounded queue, turns that go round the clients, and the time to retry."""

import asyncio

import pytest

from server.solving.admission import LONGEST_RETRY_S, Admission, Ticket
from server.solving.refusals import Refusal, RefusalKind


class Clock:
    """Stands still unless it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def admission(*, slots: int = 1, queued: int = 8, per_client: int | None = None) -> tuple[Admission, Clock]:
    clock = Clock()
    return Admission(slots=slots, queued=queued, per_client=per_client, now=clock), clock


def admit(door: Admission, client: str) -> Ticket:
    """A request of the client that wants a slot."""
    door.enter(client)
    try:
        return door.queue(client)
    except Refusal:
        door.leave(client)
        raise


def release(door: Admission, ticket: Ticket, *, is_typical: bool = True) -> None:
    door.release(ticket, is_typical=is_typical)
    door.leave(ticket.client)


def is_running(ticket: Ticket) -> bool:
    return ticket.called_s is not None


async def test_a_free_slot_is_taken_at_once_and_the_next_waits() -> None:
    door, _ = admission()
    first, second = admit(door, "a"), admit(door, "a")
    assert (is_running(first), is_running(second)) == (True, False)
    assert (door.running, door.waiting) == (1, 1)
    await first.turn()
    release(door, first)
    await second.turn()
    assert (door.running, door.waiting) == (1, 0)
    release(door, second)
    assert (door.running, door.waiting) == (0, 0)


async def test_a_full_queue_refuses_and_goes_on_as_before() -> None:
    door, _ = admission(queued=1)
    held = [admit(door, "a"), admit(door, "b")]
    for client in ("a", "c"):
        with pytest.raises(Refusal) as refused:
            admit(door, client)
        assert refused.value.kind is RefusalKind.OVERLOADED
        assert refused.value.retry_after_s
    for ticket in held:
        release(door, ticket)
    assert is_running(admit(door, "c"))


async def test_without_a_queue_only_free_slots_admit() -> None:
    door, _ = admission(slots=2, queued=0)
    held = [admit(door, "a"), admit(door, "a")]
    with pytest.raises(Refusal):
        admit(door, "a")
    release(door, held[0])
    assert is_running(admit(door, "a"))


async def test_only_a_client_above_its_quota_is_refused() -> None:
    door, _ = admission(slots=1, queued=8, per_client=2)
    held = [admit(door, "a"), admit(door, "a")]
    with pytest.raises(Refusal) as refused:
        admit(door, "a")
    assert refused.value.kind is RefusalKind.QUOTA_EXCEEDED
    assert refused.value.retry_after_s
    admit(door, "b")
    release(door, held[1])
    admit(door, "a")


async def test_turns_go_round_the_clients() -> None:
    door, _ = admission(slots=1, queued=100)
    tickets = [admit(door, "greedy") for _ in range(5)] + [admit(door, "modest"), admit(door, "late")]
    order: list[str] = []
    while door.running:
        current = next(ticket for ticket in tickets if is_running(ticket))
        tickets.remove(current)
        order.append(current.client)
        release(door, current)
    assert order == ["greedy", "greedy", "modest", "late", "greedy", "greedy", "greedy"]


async def test_clients_that_come_and_go_starve_nobody_who_waits() -> None:
    door, _ = admission(slots=1, queued=100)
    running, patient = admit(door, "first"), admit(door, "patient")
    later = [admit(door, f"passer-by {number}") for number in range(10)]
    release(door, running)
    assert is_running(patient)
    assert not any(map(is_running, later))


async def test_the_client_that_runs_least_goes_first() -> None:
    door, _ = admission(slots=3, queued=100)
    busy = [admit(door, "busy") for _ in range(4)]
    other = admit(door, "other")
    release(door, busy[0])
    assert is_running(other)
    assert not is_running(busy[3])


async def test_a_search_released_in_the_queue_leaves_its_place() -> None:
    door, _ = admission(slots=1)
    running, leaving, last = (admit(door, "a") for _ in range(3))
    release(door, leaving)
    assert door.waiting == 1
    release(door, running)
    assert is_running(last)


async def test_retry_after_grows_with_the_queue_and_mean_length() -> None:
    door, clock = admission(slots=1, queued=1000)
    for _ in range(300):
        ticket = admit(door, "a")
        clock.now_s += 2.0
        release(door, ticket)
    assert door.retry_after_s == 2
    for _ in range(10):
        admit(door, "a")
    assert door.retry_after_s == 2 * 10
    for _ in range(900):
        admit(door, "a")
    assert door.retry_after_s == LONGEST_RETRY_S


async def test_waiting_ends_with_the_turn() -> None:
    door, _ = admission(slots=1)
    running, waiting = admit(door, "a"), admit(door, "b")
    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        turn = group.create_task(waiting.turn())
        await asyncio.sleep(0)
        assert not turn.done()
        release(door, running)
        assert await turn


async def test_a_ticket_that_leaves_the_queue_gets_no_turn() -> None:
    door, _ = admission(slots=1)
    running, leaving = admit(door, "a"), admit(door, "b")
    leaving.stop_waiting()
    async with asyncio.timeout(30):
        assert not await leaving.turn()
    release(door, leaving)
    assert (door.running, door.waiting) == (1, 0)
    running.stop_waiting()
    assert await running.turn()


async def test_a_client_that_fills_the_queue_shuts_nobody_out() -> None:
    door, _ = admission(slots=1, queued=4)
    greedy = [admit(door, "greedy") for _ in range(5)]
    modest = admit(door, "modest")
    with pytest.raises(Refusal) as displaced:
        await greedy[-1].turn()
    assert displaced.value.kind is RefusalKind.OVERLOADED
    assert displaced.value.retry_after_s
    release(door, greedy[-1])
    assert (door.running, door.waiting) == (1, 4)
    with pytest.raises(Refusal):
        admit(door, "greedy")
    release(door, greedy[0])
    release(door, modest)
    for ticket in greedy[1:4]:
        release(door, ticket)
    assert (door.running, door.waiting) == (0, 0)


async def test_searches_that_were_cut_short_leave_the_mean_length() -> None:
    door, clock = admission(slots=1, queued=8)
    for _ in range(50):
        ticket = admit(door, "a")
        clock.now_s += 60.0
        release(door, ticket)
    usual = door.retry_after_s
    for _ in range(50):
        release(door, admit(door, "a"), is_typical=False)
    assert door.retry_after_s == usual >= 55
