"""Responses: the worked answer, its tokens, and the order of a stream."""

import json
from typing import Any

import pytest

from search import CandidateStop, Execution, ExecutionOutcome
from search.testing.fakes import ScriptedPolicy, ScriptedRunner, answer, candidate, last_step
from server.parts.fakes import fake_parts, opening
from server.parts.serving import ServingParts
from tests.server.http.openai.openai_server import FLAWLESS, PATH, chat_body
from tests.server.serving import serve

CUT_OFF = candidate("# Go on and", CandidateStop.LENGTH, tokens=9)
FENCED = "# Print a fence\nprint('```')"


def scripted(code: str, stated: str, *, output: str = "") -> ServingParts:
    """They know one step and one answer to the problem "?"."""
    script = {(): [last_step(code, tokens=7), CUT_OFF], (f"\n{code}\n",): [answer(stated, tokens=5)]}
    policy = ScriptedPolicy(script)
    runner = ScriptedRunner({code: Execution(outcome=ExecutionOutcome.OK, stdout=output)})
    return fake_parts(policy=policy, open_runner=lambda _: runner)


async def reply(parts: ServingParts | None = None, **fields: Any) -> dict[str, Any]:
    async with serve(opening(parts or fake_parts(policy=FLAWLESS))) as served:
        response = await served.client.post(PATH, json=chat_body(**fields))
    assert response.status_code == 200, response.text
    return response.json()


async def chunks(**fields: Any) -> list[dict[str, Any]]:
    """The chunks of a stream, which ends with [DONE]."""
    async with serve(opening(fake_parts(policy=FLAWLESS))) as served:
        response = await served.client.post(PATH, json=chat_body(stream=True, **fields))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-cache, no-store"
    *frames, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def content(completion: dict[str, Any]) -> str:
    return completion["choices"][0]["message"]["content"]


async def test_the_content_is_the_steps_and_the_boxed_answer() -> None:
    parts = scripted("# Halve it\nprint(1 / 2)", "1/2", output="0.5\n")
    assert content(await reply(parts, problem="?")) == (
        "Halve it\n\n```python\nprint(1 / 2)\n```\n\nOutput:\n\n```\n0.5\n```\n\n"
        r"The answer is $\boxed{\frac{1}{2}}$."
    )


async def test_a_fence_in_a_step_does_not_end_its_block() -> None:
    shown = content(await reply(scripted(FENCED, "1", output="```\n"), problem="?"))
    assert "````python\nprint('```')\n````" in shown
    assert "````\n```\n````" in shown


async def test_a_search_without_an_answer_says_so() -> None:
    completion = await reply(fake_parts(policy=ScriptedPolicy({(): [CUT_OFF]})))
    assert completion["choices"][0]["finish_reason"] == "length"
    assert content(completion) == ("No answer was found: the search ended (exhausted) before a trajectory stated one.")


async def test_the_usage_counts_the_tokens_of_policy_and_content() -> None:
    completion = await reply(scripted("# Halve it\nprint(1 / 2)", "1/2"), problem="?")
    generated = completion["search"]["usage"]["policy_tokens"]
    assert generated == 7 + 9 + 5
    assert completion["usage"] == {
        "prompt_tokens": 1,
        "completion_tokens": generated,
        "total_tokens": generated + 1,
        "completion_tokens_details": {"reasoning_tokens": generated - 12},
    }


async def test_the_completion_holds_the_response_of_solve() -> None:
    body = {"problem": "1+2+3", "trajectories": 3, "search": {"candidates": 3, "parallel_rollouts": 1}}
    body["cache"] = "bypass"
    async with serve(opening(fake_parts(policy=FLAWLESS))) as served:
        solved = (await served.client.post("/solve", json=body)).json()
        completion = (await served.client.post(PATH, json=chat_body())).json()
    same = ("answer", "confidence", "stop_reason", "steps", "answers", "tree_id", "usage", "models")
    assert [completion["search"][name] for name in same] == [solved[name] for name in same]
    assert completion["id"] == f"chatcmpl-{completion['search']['id']}"
    assert completion["system_fingerprint"] == "arithmetic@fake+constant@fake"


@pytest.mark.parametrize(
    ("stop", "rest"),
    [("The answer", ""), (["nowhere", "answer is"], "The "), ("nowhere", "The answer is $\\boxed{6}$.")],
)
async def test_the_content_ends_before_the_first_stop(stop: object, rest: str) -> None:
    shown = content(await reply(stop=stop))
    assert shown.rpartition("\n\n")[2] == rest


async def test_a_stream_has_role_reasoning_content_and_end() -> None:
    sent = await chunks()
    whole = await reply()
    deltas = [chunk["choices"][0]["delta"] for chunk in sent]
    assert deltas[0] == {"role": "assistant", "content": ""}
    kinds = [set(delta) for delta in deltas[1:]]
    assert kinds == [{"reasoning", "reasoning_content"}] * (len(kinds) - 2) + [{"content"}, set()]
    message = whole["choices"][0]["message"]
    assert "".join(delta.get("reasoning", "") for delta in deltas) == message["reasoning"]
    assert message["reasoning"] == message["reasoning_content"]
    assert deltas[-2]["content"] == message["content"]
    assert [chunk["choices"][0]["finish_reason"] for chunk in sent[-2:]] == [None, "stop"]
    assert sent[-1]["search"]["answer"] == whole["search"]["answer"]
    assert len({chunk["id"] for chunk in sent}) == 1
    assert not any("usage" in chunk for chunk in sent)


async def test_a_stream_has_the_usage_last_if_it_is_asked_for() -> None:
    *others, last = await chunks(stream_options={"include_usage": True})
    assert [chunk["usage"] for chunk in others] == [None] * len(others)
    assert (last["choices"], last["usage"]) == ([], (await reply())["usage"])


async def test_messages_that_were_not_used_are_told_first() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+2"}]
    completion = await reply(messages=messages)
    sent = await chunks(messages=messages)
    told = "Only the user messages are read, as one problem. The other messages were not used.\n"
    assert completion["choices"][0]["message"]["reasoning"].startswith(told)
    assert sent[1]["choices"][0]["delta"]["reasoning"] == told
