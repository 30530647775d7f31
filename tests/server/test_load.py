"""Load: many clients that leave at once, and more clients than the server holds."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from search import Candidate, Path
from server.http.streams import read_frames
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.settings.settings import Settings
from tests.server.http.asgi_call import AsgiCall
from tests.server.serving import Served, serve

PROBLEM = "3+4+5"
CLIENTS = 100
PATIENCE_S = 60.0
"""Nothing here waits for time to pass; this only keeps a broken server from hanging the test."""


@dataclass(slots=True)
class CountingPolicy:
    """Waits at a gate, and counts the calls that came."""

    gated: GatedPolicy = field(default_factory=GatedPolicy)
    begun: int = 0

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        self.begun += 1
        return await self.gated.propose(path, n, seed=seed)

    async def until_begun(self, calls: int) -> None:
        while self.begun < calls:
            self.gated.entered.clear()
            await self.gated.entered.wait()


def a_client(served: Served, number: int) -> AsgiCall:
    """Of seven addresses; every second one streams."""
    body = {"problem": PROBLEM, "seed": number, "stream": number % 2 == 0}
    return AsgiCall(served, body, address=f"fake{number % 7}")


def _totals(served: Served, name: str, label: str | None = None) -> Counter[str]:
    """Of one metric by that label's values."""
    totals: Counter[str] = Counter()
    for family in text_string_to_metric_families(served.solver.metrics.page().decode()):
        for sample in family.samples:
            if sample.name == name:
                totals["" if label is None else sample.labels[label]] += round(sample.value)
    return totals


def _held(served: Served) -> int:
    return _totals(served, "rstar_requests_in_flight")[""] + _totals(served, "rstar_queue_depth")[""]


async def _until(served: Served, held: int) -> None:
    """There is no event for it: each turn of the event loop brings it nearer."""
    while _held(served) != held:  # noqa: ASYNC110  # see above
        await asyncio.sleep(0)


@pytest.mark.parametrize("slots", [CLIENTS, 4], ids=["all_running", "most_waiting"])
async def test_nothing_goes_on_for_a_hundred_clients_that_leave(slots: int) -> None:
    policy = CountingPolicy()
    settings = Settings(concurrent_searches=slots, queued_searches=CLIENTS)
    async with (
        serve(opening(fake_parts(policy=policy)), settings=settings) as served,
        asyncio.timeout(PATIENCE_S),
    ):
        async with asyncio.TaskGroup() as group:
            clients = [a_client(served, number) for number in range(CLIENTS)]
            for client in clients:
                group.create_task(client.run())
            await policy.until_begun(slots)
            await _until(served, CLIENTS)
            for client in clients:
                client.leave()
        await _until(served, 0)
        while _totals(served, "rstar_requests_total").total() < CLIENTS:  # noqa: ASYNC110  # counted after its slot is free
            await asyncio.sleep(0)
        assert (policy.gated.waiting, policy.gated.cancelled) == (0, policy.begun)
        assert policy.begun == slots
        assert _totals(served, "rstar_requests_total", "outcome") == {"cancelled": CLIENTS}
        policy.gated.gate.set()
        response = await served.client.post("/solve", json={"problem": PROBLEM, "trajectories": 2})
        assert response.status_code == 200
        assert policy.gated.cancelled == slots


async def test_under_3x_overload_all_get_an_answer_or_retry_after() -> None:
    policy = GatedPolicy()
    settings = Settings(concurrent_searches=4, queued_searches=8)
    holds, offered = 12, 36

    async def ask(served: Served, number: int) -> httpx.Response:
        body = {"problem": PROBLEM, "trajectories": 2, "seed": number, "stream": number % 2 == 0}
        return await served.client.post("/solve", json=body)

    async with (
        serve(opening(fake_parts(policy=policy)), settings=settings) as served,
        asyncio.timeout(PATIENCE_S),
    ):
        async with asyncio.TaskGroup() as group:
            waiting = {group.create_task(ask(served, number)) for number in range(offered)}
            responses: list[httpx.Response] = []
            while len(waiting) > holds:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                responses += [task.result() for task in done]
            assert {response.status_code for response in responses} == {503}
            assert _held(served) == holds
            policy.gate.set()
        responses += [task.result() for task in waiting]
        assert Counter(response.status_code for response in responses) == {503: offered - holds, 200: holds}
        for response in responses:
            if response.status_code == 503:
                assert response.json()["type"] == "urn:rstar:problem:overloaded"
                assert int(response.headers["retry-after"]) > 0
            elif response.headers["content-type"].startswith("text/event-stream"):
                assert list(read_frames(response.text.splitlines()))[-1].name == "done"
        outcomes = _totals(served, "rstar_requests_total", "outcome")
        assert (outcomes["refused"], outcomes.total()) == (offered - holds, offered)
        assert _totals(served, "rstar_admission_rejections_total", "reason") == {"overloaded": offered - holds}
        await _until(served, 0)
