"""Chat requests: what they ask for in the words of `POST /solve`, and what is refused."""

from typing import Any

import pytest
from openai.types.chat import completion_create_params

from search import Strategy
from server.http.openai.requests import has_unused_messages, solve_request
from server.http.openai.schemas import ChatRequest, ChatSearch
from server.http.schemas import Effort, SearchOptions, SolveRequest
from server.solving.refusals import Refusal
from tests.server.http.openai.openai_server import MODEL, PATH, chat_body
from tests.server.serving import serve


def asked(*, messages: list[dict[str, object]] | None = None, **fields: object) -> SolveRequest:
    messages = messages or [{"role": "user", "content": "1+2"}]
    return solve_request(ChatRequest.model_validate({"model": MODEL, "messages": messages, **fields}))


def test_fields_of_the_same_meaning_are_passed_on() -> None:
    request = asked(temperature=0.5, top_p=0.9, seed=7, max_completion_tokens=500, search={"timeout_s": 3})
    assert (request.temperature, request.top_p, request.seed) == (0.5, 0.9, 7)
    assert (request.max_tokens, request.timeout_s, request.effort) == (500, 3.0, None)


def test_a_bare_request_is_a_bare_request_to_solve() -> None:
    ours = SolveRequest(problem="1+2").model_dump()
    theirs = asked().model_dump()
    assert {name: theirs[name] for name in ours if name != "search"} == {
        name: value for name, value in ours.items() if name != "search"
    }
    assert ours["search"].items() <= theirs["search"].items()


@pytest.mark.parametrize("effort", Effort)
def test_reasoning_effort_is_the_effort(effort: Effort) -> None:
    assert asked(reasoning_effort=effort.value).effort is effort


def test_max_tokens_is_an_older_name() -> None:
    assert asked(max_tokens=90).max_tokens == asked(max_completion_tokens=90).max_tokens == 90


def test_user_messages_and_parts_are_one_problem() -> None:
    parts = [{"type": "text", "text": "x = 3. "}, {"type": "text", "text": "y = 4."}]
    messages: list[dict[str, object]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": parts},
        {"role": "user", "content": "What is x + y?", "name": "ann"},
    ]
    assert asked(messages=messages).problem == "x = 3. y = 4.\n\nWhat is x + y?"


def test_messages_that_are_not_used_are_noticed() -> None:
    user, system = ({"role": role, "content": "1+2"} for role in ("user", "system"))
    found = [
        has_unused_messages(ChatRequest.model_validate({"model": MODEL, "messages": messages}))
        for messages in ([user], [system, user])
    ]
    assert found == [False, True]


def test_metadata_stands_for_fields_of_search() -> None:
    tags = {"search.strategy": "greedy", "search.trajectories": "3", "search.stop_when_decided": "false", "team": "a"}
    request = asked(metadata=tags, search={"depth": 5})
    assert (request.search.strategy, request.search.depth, request.search.stop_when_decided) == (
        Strategy.GREEDY,
        5,
        False,
    )
    assert request.trajectories == 3


@pytest.mark.parametrize(
    ("metadata", "search", "field"),
    [
        ({"search.depth": "deep"}, {}, "metadata.search.depth"),
        ({"search.width": "3"}, {}, "metadata.search.width"),
        ({"search.depth": "3"}, {"depth": 3}, "search.depth"),
    ],
)
def test_bad_metadata_is_refused(metadata: dict[str, str], search: dict[str, object], field: str) -> None:
    with pytest.raises(Refusal) as refused:
        asked(metadata=metadata, search=search)
    assert [error.field for error in refused.value.errors] == [field]


NEUTRAL: dict[str, Any] = {
    "n": 1,
    "frequency_penalty": 0,
    "presence_penalty": 0.0,
    "logprobs": False,
    "top_logprobs": 0,
    "logit_bias": {},
    "response_format": {"type": "text"},
    "modalities": ["text"],
    "store": False,
    "tools": [],
    "tool_choice": "none",
    "functions": [],
    "function_call": "auto",
    "stop": None,
    "audio": None,
    "moderation": None,
    "web_search_options": None,
    "user": "u1",
    "safety_identifier": "s1",
    "prompt_cache_key": "k1",
    "prompt_cache_options": {},
    "prompt_cache_retention": "24h",
    "service_tier": "auto",
    "parallel_tool_calls": True,
    "prediction": {"type": "content", "content": "7"},
    "verbosity": "low",
}


def test_values_that_ask_for_nothing_change_nothing() -> None:
    assert asked(**NEUTRAL) == asked()


def test_every_field_of_the_official_client_is_known() -> None:
    theirs = {*completion_create_params.CompletionCreateParamsBase.__annotations__, "stream"}
    assert theirs <= set(ChatRequest.model_fields)
    assert set(ChatRequest.model_fields) - theirs == {"search"}


def test_every_field_of_solve_has_its_place_in_a_chat_request() -> None:
    same = {"stream", "max_tokens", "temperature", "top_p", "seed", "search"}
    renamed = {"problem", "effort"}  # messages and reasoning_effort
    in_search = {"trajectories", "timeout_s", "cache"}
    not_offered = {"return_tree"}
    assert set(SolveRequest.model_fields) == same | renamed | in_search | not_offered
    assert same <= set(ChatRequest.model_fields)
    assert in_search | set(SearchOptions.model_fields) == set(ChatSearch.model_fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "1+2"}, "messages"),
        ({"messages": [{"role": "user", "content": " \n"}]}, "messages"),
        ({"messages": [{"role": "system", "content": "1+2"}]}, "messages"),
        ({"messages": [{"role": "user", "content": "1+"}, {"role": "assistant", "content": "3"}]}, "messages[1].role"),
        ({"messages": [{"role": "tool", "content": "3"}]}, "messages[0].role"),
        ({"messages": [{"role": "poet", "content": "3"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "user", "content": "1+" * 4001}]}, "messages"),
        ({"messages": [{"role": "user", "content": "1+" * 600}]}, "messages"),
        ({"reasoning_effort": "xhigh"}, "reasoning_effort"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),  # beside search.trajectories
        ({"search": {"trajectories": 257}}, "search.trajectories"),
        ({"search": {"timeout_s": 601}}, "search.timeout_s"),
        ({"search": {"width": 3}}, "search.width"),
        ({"search": {"depth": 33}}, "search.depth"),
        ({"max_tokens": 4_000_001}, "max_tokens"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop[0]"),
        ({"metadata": {"search.depth": 3}}, "metadata.search.depth"),
        ({"n": 2}, "n"),
        ({"temperature": 2.5}, "temperature"),
        ({"frequency_penalty": 0.1}, "frequency_penalty"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"50": 1}}, "logit_bias"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"modalities": ["audio"]}, "modalities[0]"),
        ({"store": True}, "store"),
        ({"tools": [{"type": "function", "function": {"name": "add"}}]}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"audio": {"voice": "ash", "format": "wav"}}, "audio"),
        ({"top_k": 5}, "top_k"),
    ],
)
async def test_a_bad_value_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    async with serve() as served:
        response = await served.client.post(PATH, json=chat_body(**fields))
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert param in error["message"]
