"""The official `openai` client, over a real socket: replies, streams, errors, and a client that leaves."""

import asyncio
from collections.abc import AsyncGenerator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessageParam
from pydantic import SecretStr

from server.parts.fakes import GatedPolicy, fake_parts
from server.settings.settings import Settings
from tests.server.http.openai.openai_server import KEY, MODEL, OpenAIServer, openai_server

MESSAGES: list[ChatCompletionMessageParam] = [{"role": "user", "content": "1+2+3"}]
SEARCH = {"search": {"candidates": 3, "parallel_rollouts": 1, "cache": "bypass"}}


def client_of(server: OpenAIServer, *, key: str = KEY) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=server.url, api_key=key, max_retries=0, timeout=20)


@pytest.fixture
async def server() -> AsyncGenerator[OpenAIServer]:
    async with openai_server(settings=Settings(api_keys=SecretStr(KEY))) as one:
        yield one


async def create(server: OpenAIServer) -> ChatCompletion:
    async with client_of(server) as client:
        return await client.chat.completions.create(model=MODEL, messages=MESSAGES, extra_body=SEARCH)


async def test_a_reply_holds_answer_reasoning_usage_and_search(server: OpenAIServer) -> None:
    async with client_of(server) as client:
        completion = await client.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            reasoning_effort="low",
            seed=3,
            extra_body=SEARCH,
            extra_headers={"X-Request-Id": "r1"},
        )
    (choice,) = completion.choices
    assert choice.finish_reason == "stop"
    assert choice.message.content is not None
    assert choice.message.content.endswith(r"The answer is $\boxed{6}$.")
    assert choice.message.model_dump()["reasoning_content"].startswith("Searching.")
    assert completion.usage is not None
    assert completion.usage.completion_tokens > 0
    assert completion.model_dump()["search"]["answer"] == "6"
    assert completion.id.startswith("chatcmpl-r1-")


async def test_a_stream_can_be_read_chunk_by_chunk(server: OpenAIServer) -> None:
    reasoning = content = ""
    async with client_of(server) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}, extra_body=SEARCH
        )
        chunks = [chunk async for chunk in stream]
    for chunk in chunks[:-1]:
        delta = chunk.choices[0].delta
        reasoning += delta.model_dump().get("reasoning") or ""
        content += delta.content or ""
    whole = await create(server)
    assert chunks[-1].usage == whole.usage
    assert content == whole.choices[0].message.content
    assert reasoning == whole.choices[0].message.model_dump()["reasoning"]


async def test_the_clients_own_accumulation_gives_the_whole(server: OpenAIServer) -> None:
    async with (
        client_of(server) as client,
        client.chat.completions.stream(model=MODEL, messages=MESSAGES, extra_body=SEARCH) as stream,
    ):
        completion = await stream.get_final_completion()
    whole = await create(server)
    assert completion.choices[0].message.content == whole.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"


def _use_synchronously(url: str) -> None:
    with OpenAI(base_url=url, api_key=KEY, timeout=20) as client:
        (model,) = client.models.list().data
        assert client.models.retrieve(model.id) == model
        completion = client.chat.completions.create(model=model.id, messages=MESSAGES, extra_body=SEARCH)
        streamed = ""
        for chunk in client.chat.completions.create(
            model=model.id, messages=MESSAGES, stream=True, metadata={"search.parallel_rollouts": "1"}
        ):
            streamed += chunk.choices[0].delta.content or ""
        assert r"\boxed{6}" in streamed
        assert completion.choices[0].message.content is not None
        assert r"\boxed{6}" in completion.choices[0].message.content
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model="gpt-5", messages=MESSAGES)
        assert refused.value.code == "model_not_found"


async def test_the_synchronous_client_works_too(server: OpenAIServer) -> None:
    await asyncio.to_thread(_use_synchronously, server.url)


async def test_a_wrong_key_is_an_authentication_error(server: OpenAIServer) -> None:
    async with client_of(server, key="another-key-of-that-length") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.models.list()
    assert (refused.value.code, refused.value.type) == ("invalid_api_key", "authentication_error")


async def test_a_bad_value_is_a_bad_request_error(server: OpenAIServer) -> None:
    async with client_of(server) as client:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=MESSAGES, n=2)
    assert (refused.value.param, refused.value.code) == ("n", "invalid_value")
    assert refused.value.request_id is not None


async def test_a_second_search_over_the_quota_is_a_rate_limit_error() -> None:
    policy = GatedPolicy()
    settings = Settings(api_keys=SecretStr(KEY), max_searches_per_key=1)
    async with (
        openai_server(parts=fake_parts(policy=policy), settings=settings) as server,
        asyncio.timeout(30),
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(create(server))
        await policy.entered.wait()
        with pytest.raises(openai.RateLimitError) as refused:
            await create(server)
        policy.gate.set()
    assert refused.value.response.headers["retry-after"].isdecimal()
    assert first.result().choices[0].finish_reason == "stop"


async def test_a_search_that_fails_in_the_stream_is_an_api_error(server: OpenAIServer) -> None:
    async with client_of(server) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "no sum"}], stream=True
        )
        with pytest.raises(openai.APIError, match="failed during the search") as failed:
            [chunk async for chunk in stream]
    assert failed.value.code == "search_failed"


async def test_closing_the_stream_cancels_the_search() -> None:
    policy = GatedPolicy()
    async with (
        openai_server(parts=fake_parts(policy=policy)) as server,
        client_of(server) as client,
        asyncio.timeout(30),
    ):
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        first = await anext(aiter(stream))
        await policy.entered.wait()
        await stream.close()
        await policy.left.wait()
    assert first.choices[0].delta.role == "assistant"
    assert policy.cancelled >= 1
    assert policy.waiting == 0


async def test_cancelling_the_call_cancels_the_search() -> None:
    policy = GatedPolicy()
    async with openai_server(parts=fake_parts(policy=policy)) as server, asyncio.timeout(30):
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(create(server))
            await policy.entered.wait()
            calling.cancel()
        await policy.left.wait()
    assert policy.waiting == 0
