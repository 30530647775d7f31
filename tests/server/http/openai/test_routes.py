"""Routes: chat requests run the server's own searches, which are cancelled, kept alive, drained and counted as ever."""

import asyncio

import pytest
from pydantic import SecretStr

from server.http.streams import HEARTBEAT
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.settings.settings import Settings
from tests.server.http.asgi_call import AsgiCall
from tests.server.http.openai.openai_server import KEY, PATH, chat_body
from tests.server.serving import serve


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_cancels_its_search(*, stream: bool) -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(10):
        call = AsgiCall(served, chat_body(stream=stream), path=PATH)
        async with asyncio.TaskGroup() as group:
            group.create_task(call.run())
            await policy.entered.wait()
            call.leave()
        policy.gate.set()
        after = await served.client.post(PATH, json=chat_body())
    assert (policy.waiting, policy.cancelled) == (0, 1)
    assert after.status_code == 200


async def test_a_silent_search_gives_heartbeats() -> None:
    policy = GatedPolicy()
    settings = Settings(heartbeat_s=0.01)
    async with serve(opening(fake_parts(policy=policy)), settings=settings) as served, asyncio.timeout(20):
        call = AsgiCall(served, chat_body(stream=True), path=PATH)
        async with asyncio.TaskGroup() as group:
            group.create_task(call.run())
            await call.has_sent(4 * [HEARTBEAT])
            policy.gate.set()
    assert call.body.startswith(b'data: {"id": "chatcmpl-')
    assert call.body.endswith(b"data: [DONE]\n\n")


async def test_a_cancelled_reply_holds_the_answer_so_far() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        call = AsgiCall(served, chat_body(stream=True), path=PATH)
        group.create_task(call.run())
        await policy.entered.wait()
        search_id = call.body.partition(b'"chatcmpl-')[2].partition(b'"')[0].decode()
        cancelled = await served.client.post(f"/solve/{search_id}/cancel")
        assert cancelled.json()["state"] == "stopping"
    assert b'"stop_reason": "cancelled"' in call.body
    assert call.body.endswith(b"data: [DONE]\n\n")


async def test_a_stopping_server_ends_a_reply_with_its_best_answer() -> None:
    policy = GatedPolicy()
    async with serve(opening(fake_parts(policy=policy))) as served, asyncio.timeout(20), asyncio.TaskGroup() as group:
        replying = group.create_task(served.client.post(PATH, json=chat_body()))
        await policy.entered.wait()
        await served.solver.drain(0.01)
    assert replying.result().status_code == 200
    assert replying.result().json()["search"]["stop_reason"] == "cancelled"


async def test_replies_are_counted_under_their_own_endpoint() -> None:
    async with serve() as served:
        stop_reason = (await served.client.post(PATH, json=chat_body())).json()["search"]["stop_reason"]
        page = (await served.client.get("/metrics")).text
    assert f'rstar_requests_total{{endpoint="{PATH}",outcome="{stop_reason}",strategy="mcts"}} 1.0' in page


async def test_a_repeated_problem_is_answered_from_the_tree_cache() -> None:
    async with serve() as served:
        first, again = [(await served.client.post(PATH, json=chat_body())).json() for _ in range(2)]
    message, same = (reply["choices"][0]["message"] for reply in (first, again))
    assert same["content"] == message["content"]
    assert (first["usage"]["completion_tokens"] > 0, again["usage"]["completion_tokens"]) == (True, 0)
    cached = again["search"]["usage"]["cached_trajectories"]
    assert cached == first["search"]["usage"]["trajectories"]
    assert f"Trajectories of an earlier search: {cached}." in same["reasoning"]


async def test_an_api_key_opens_all_paths() -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    async with serve(settings=Settings(api_keys=SecretStr(KEY))) as served:
        completed = await served.client.post(PATH, json=chat_body(), headers=headers)
        models = await served.client.get("/v1/models", headers=headers)
    assert (completed.status_code, models.status_code) == (200, 200)


async def test_a_reply_carries_the_request_id() -> None:
    async with serve() as served:
        response = await served.client.post(PATH, json=chat_body(), headers={"x-request-id": "r1"})
    assert response.headers["x-request-id"] == "r1"
    assert response.json()["id"].startswith("chatcmpl-r1-")


async def test_the_one_model_has_the_operators_name() -> None:
    async with serve(settings=Settings(served_model_name="maths/small")) as served:
        models = (await served.client.get("/v1/models")).json()
        model = (await served.client.get("/v1/models/maths/small")).json()
        completed = await served.client.post(PATH, json=chat_body(model="maths/small"))
        other = await served.client.post(PATH, json=chat_body())
    assert models == {"object": "list", "data": [model]}
    assert (model["id"], model["object"], model["owned_by"]) == ("maths/small", "model", "rstar")
    assert model["created"] > 1_700_000_000
    assert completed.json()["model"] == "maths/small"
    assert other.status_code == 404
