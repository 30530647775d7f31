"""LangChain, as an application that knows nothing of this server but its base URL."""

from collections.abc import AsyncGenerator

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from openai import BadRequestError
from pydantic import SecretStr

from tests.server.http.openai.openai_server import KEY, MODEL, openai_server

MESSAGES = [SystemMessage("You are a careful mathematician."), HumanMessage("1+2+3")]


@pytest.fixture
async def chat() -> AsyncGenerator[ChatOpenAI]:
    async with openai_server() as server:
        yield ChatOpenAI(
            model=MODEL,
            base_url=server.url,
            api_key=SecretStr(KEY),
            stream_usage=True,
            max_retries=0,
            timeout=20,
            extra_body={"search": {"parallel_rollouts": 1}},
        )


async def test_a_call_returns_the_answer_and_the_usage(chat: ChatOpenAI) -> None:
    message = await chat.ainvoke(MESSAGES)
    assert r"\boxed{6}" in message.text
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] > 0
    assert message.response_metadata["finish_reason"] == "stop"


async def test_a_stream_adds_up_to_the_answer(chat: ChatOpenAI) -> None:
    whole = AIMessageChunk(content="")
    async for chunk in chat.astream(MESSAGES):
        whole += chunk
    assert r"\boxed{6}" in whole.text
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["input_tokens"] == len("1+2+3")  # the fake policy reads a token a character


async def test_tools_are_refused_in_clear_words(chat: ChatOpenAI) -> None:
    add = {"type": "function", "function": {"name": "add"}}
    with pytest.raises(BadRequestError, match="tools"):
        await chat.ainvoke(MESSAGES, tools=[add])
