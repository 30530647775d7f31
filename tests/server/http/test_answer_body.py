"""Answer bodies: the same bytes however long, and the long ones made beside the event loop."""

import json
import threading
from typing import Any

import pytest

from search import Execution, NodeOutcome, SearchConfig, Snapshot
from search.testing.fakes import ArithmeticRunner
from server.http.answer_body import answer_body
from server.http.event_stream import stream_frames
from server.http.schemas import SolveResponse, TreeNode
from server.http.wire import read_frames
from server.parts.fakes import FAKE_MODELS, fake_parts, opening, serve
from server.solving.admission import Ticket
from server.solving.orders import Order
from server.solving.receipt import Waited, never_begun, response_for
from server.solving.running import RunningSearch

ORDER = Order(problem="1+2", config=SearchConfig(), trajectories=2, timeout_s=60.0, seed=0)


class WatchedNode(TreeNode):
    """Notes on which threads it is rendered."""

    def model_dump(self, **_: Any) -> dict[str, Any]:
        _rendering.add(threading.get_ident())
        return super().model_dump()


_rendering: set[int] = set()


@pytest.fixture(autouse=True)
def nothing_rendered_yet() -> None:
    _rendering.clear()


def _response(nodes: int) -> SolveResponse:
    waited = Waited(total_s=0.0, queue_s=0.0)
    response = response_for(
        never_begun("1+2"), search_id="s", order=ORDER, models=FAKE_MODELS, waited=waited, problem_tokens=3
    )
    node = WatchedNode(
        node_id=0, parent=None, depth=0, text="½", output="", outcome=NodeOutcome.OPEN, answer=None, score=None,
        value=0.0, visits=0,
    )  # fmt: skip
    return response.model_copy(update={"tree": [node] * nodes if nodes else None})


async def test_a_response_without_a_tree_says_nothing_of_one() -> None:
    body = json.loads(await answer_body(_response(0)))
    assert "tree" not in body
    assert body == json.loads(_response(0).model_dump_json(exclude={"tree"}))


async def test_a_tree_is_rendered_on_another_thread() -> None:
    response = _response(3)
    body = await answer_body(response)
    assert len(_rendering) == 1
    assert threading.get_ident() not in _rendering
    assert json.loads(body) == json.loads(response.model_dump_json())


async def test_so_is_the_tree_at_the_end_of_a_stream() -> None:
    running = RunningSearch("s", ORDER, Ticket("c"), arrived_s=0.0)
    watch = running.watch(events=True)
    running.conclude(_response(3))
    running.end()

    def describe(_: object) -> Any:
        raise AssertionError

    stream = b"".join([chunk async for chunk in stream_frames(watch, describe=describe, heartbeat_s=60.0)])
    (done,) = read_frames(stream.decode().split("\n"))
    assert done.payload == json.loads(_response(3).model_dump_json())
    assert len(_rendering) == 1
    assert threading.get_ident() not in _rendering


async def test_the_nodes_of_a_tree_are_collected_on_another_thread() -> None:
    collecting: set[int] = set()

    class WatchedExecution(Execution):
        def __getattribute__(self, name: str) -> Any:
            collecting.add(threading.get_ident())
            return super().__getattribute__(name)

    class Runner(ArithmeticRunner):
        async def run(self, parent: Snapshot | None, code: str) -> Execution:
            ran = await super().run(parent, code)
            return WatchedExecution(**{name: getattr(ran, name) for name in ran.__dataclass_fields__})

    async with serve(opening(fake_parts(open_runner=lambda _: Runner()))) as served:
        body = {"problem": "1+2", "trajectories": 2}
        await served.client.post("/solve", json=body)
        assert collecting == {threading.get_ident()}
        response = await served.client.post("/solve", json={**body, "return_tree": True})
    assert len(response.json()["tree"]) > 1
    assert len(collecting) == 2
