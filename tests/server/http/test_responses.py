"""Responses: their content for a finished search, and the thread that makes them."""

import json
import threading
from typing import Any

import pytest

from search import Parts, Snapshot, search
from search.outcomes import ExecutionOutcome
from search.protocols import Execution
from search.testing.fakes import (
    ArithmeticRunner,
    ScriptedPolicy,
    ScriptedRunner,
    StringEquality,
    answer,
    last_step,
    scores_by_last_step,
    step,
)
from server.http.responses import json_bytes, response_body, solve_response, split_comment
from server.http.schemas import SolveResponse
from server.parts.fakes import FAKE_MODELS, fake_parts, opening
from server.solving.searches import FinishedSearch
from server.trees.entries import Fingerprint
from tests.server.serving import a_request, serve

FIRST = "# Add the numbers\n# one by one\nx = 3 + 4\nx"
LAST = "# Print it\nprint(x)"


@pytest.mark.parametrize(
    ("text", "comment", "code"),
    [
        ("\n# Add\nx = 1\n", "Add", "x = 1"),
        ("\n# Add\n#   all of them\nx = 1\ny = 2\n", "Add all of them", "x = 1\ny = 2"),
        ("\nx = 1  # one\n# more\ny = 2\n", "", "x = 1  # one\n# more\ny = 2"),
        ("\nif x:\n    # keep\n    y = 2\n", "", "if x:\n    # keep\n    y = 2"),
        ("# only words", "only words", ""),
        ("\n## Heading\n#\nx = 1", "Heading", "x = 1"),
        ("", "", ""),
    ],
)
def test_leading_comments_are_taken_off_the_code(text: str, comment: str, code: str) -> None:
    assert " ".join(split_comment(text)[0].split()) == comment
    assert split_comment(text)[1] == code


async def _finished(script: ScriptedPolicy, **fields: object) -> FinishedSearch:
    executions = {
        FIRST: Execution(outcome=ExecutionOutcome.OK, value="7"),
        LAST: Execution(outcome=ExecutionOutcome.OK, stdout="7\n"),
    }
    parts = Parts(
        policy=script,
        runner=ScriptedRunner(executions),
        equality=StringEquality(),
        scorer=scores_by_last_step({FIRST: 0.25, LAST: 0.5}, default=0.75),
    )
    request = a_request("3+4", trajectories=4, search={"candidates": 1, "stop_when_decided": False}, **fields)
    result = await search(
        request.problem, parts=parts, config=request.config, budget=request.budget, seed=0, now=lambda: 0.0
    )
    return FinishedSearch(
        search_id="s1",
        request=request,
        fingerprint=Fingerprint("1" * 64),
        result=result,
        models=FAKE_MODELS,
        problem_tokens=100,
        queue_s=0.5,
        total_s=2.0,
    )


def _script() -> ScriptedPolicy:
    first, last = f"\n{FIRST}\n", f"\n{LAST}\n"
    return ScriptedPolicy({(): [step(FIRST)], (first,): [last_step(LAST)], (first, last): [answer("7")]})


async def test_the_steps_are_the_code_behind_the_answer() -> None:
    finished = await _finished(_script())
    response = solve_response(finished)
    assert [(one.comment, one.code, one.output, one.score) for one in response.steps] == [
        ("Add the numbers one by one", "x = 3 + 4\nx", "7", 0.25),
        ("Print it", "print(x)", "7", 0.5),
    ]
    assert all(one.visits == 2 for one in response.steps)
    assert (response.id, response.answer, response.stop_reason) == ("s1", "7", "exhausted")
    assert [(one.answer, one.votes, one.weight, one.score) for one in response.answers] == [("7", 1, 0.875, 0.75)]
    assert (response.usage.trajectories, response.usage.code_steps, response.usage.ppm_calls) == (1, 2, 3)
    steps = [node.step.token_ids for node in finished.result.tree.nodes if node.step is not None]
    assert response.usage.ppm_tokens == 3 * 100 + 3 * len(steps[0]) + 2 * len(steps[1]) + len(steps[2])
    assert (response.answer_latex, response.trajectories_to_answer, response.tree) == ("7", 1, None)
    assert (response.timing_s.total, response.timing_s.queue) == (2.0, 0.5)


async def test_without_an_answer_there_are_no_steps_or_confidence() -> None:
    response = solve_response(await _finished(ScriptedPolicy({(): [step("x = <code>")]})))
    assert (response.answer, response.confidence, response.steps, response.answers) == (None, 0.0, [], [])


async def test_a_response_without_a_tree_has_no_such_key() -> None:
    finished = await _finished(_script())
    body = json.loads(await response_body(finished))
    assert body == json.loads(solve_response(finished).model_dump_json(exclude={"tree"}))


async def test_the_tree_comes_last_in_the_response_that_wants_it() -> None:
    finished = await _finished(_script(), return_tree=True)
    body = json.loads(await response_body(finished))
    tree = SolveResponse.model_validate_json(json.dumps(body)).tree
    assert tree is not None
    assert [(node.node_id, node.parent, node.outcome) for node in tree] == [
        (0, None, "open"),
        (1, 0, "open"),
        (2, 1, "open"),
        (3, 2, "answered"),
    ]
    assert [node.output for node in tree] == ["", "7", "7", ""]
    assert list(body)[-1] == "tree"
    del body["tree"]
    assert body == json.loads(solve_response(finished).model_dump_json(exclude={"tree"}))


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tree_is_rendered_on_another_thread(*, stream: bool) -> None:
    reading: set[int] = set()

    class WatchedExecution(Execution):
        def __getattribute__(self, name: str) -> Any:
            reading.add(threading.get_ident())
            return super().__getattribute__(name)

    class Runner(ArithmeticRunner):
        async def run(self, parent: Snapshot | None, code: str) -> Execution:
            ran = await super().run(parent, code)
            return WatchedExecution(**{name: getattr(ran, name) for name in ran.__dataclass_fields__})

    async with serve(opening(fake_parts(open_runner=lambda _: Runner()))) as served:
        body = {"problem": "1+2", "trajectories": 2, "stream": stream, "cache": "bypass"}
        await served.client.post("/solve", json=body)
        assert reading == {threading.get_ident()}
        response = await served.client.post("/solve", json={**body, "return_tree": True})
    assert '"tree": [{"node_id": 0' in response.text
    assert len(reading) == 2


def test_half_a_surrogate_pair_does_not_break_the_output() -> None:
    assert json.loads(json_bytes({"output": "a\ud800b"})) == {"output": "a?b"}


def test_line_breaks_of_all_kinds_are_escaped() -> None:
    assert len(json_bytes({"text": "a\x85b\u2028c\u2029d\n"}).decode().splitlines()) == 1


def test_a_number_that_json_cannot_say_is_an_error() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"score": float("nan")})
