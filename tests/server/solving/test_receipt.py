"""Receipt: the response says what the search found."""

import pytest

from search import Budget, Parts, SearchConfig, SearchResult, search
from search.outcomes import ExecutionOutcome
from search.protocols import Execution
from search.testing.fakes import (
    ScriptedPolicy,
    ScriptedRunner,
    StringEquality,
    answer,
    last_step,
    scores_by_last_step,
    step,
)
from server.parts.fakes import FAKE_MODELS
from server.solving.orders import Order
from server.solving.receipt import Waited, response_for, split_comment

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


async def _searched(script: ScriptedPolicy, order: Order) -> SearchResult:
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
    return await search(
        order.problem,
        parts=parts,
        config=order.config,
        budget=Budget(trajectories=order.trajectories),
        seed=0,
        now=lambda: 0.0,
    )


async def test_the_steps_are_the_code_behind_the_answer_with_what_it_gave() -> None:
    order = Order(problem="3+4", config=SearchConfig(candidates=1), trajectories=4, timeout_s=9.0, seed=0)
    first, last = f"\n{FIRST}\n", f"\n{LAST}\n"
    script = ScriptedPolicy({(): [step(FIRST)], (first,): [last_step(LAST)], (first, last): [answer("7")]})
    result = await _searched(script, order)
    waited = Waited(total_s=2.0, queue_s=0.5)
    response = response_for(result, search_id="s1", order=order, models=FAKE_MODELS, waited=waited, problem_tokens=100)
    assert [(one.comment, one.code, one.output, one.score) for one in response.steps] == [
        ("Add the numbers one by one", "x = 3 + 4\nx", "7", 0.25),
        ("Print it", "print(x)", "7", 0.5),
    ]
    assert all(one.visits == 2 for one in response.steps)
    assert (response.id, response.answer, response.stop_reason) == ("s1", "7", "exhausted")
    assert [(one.answer, one.votes, one.weight, one.score) for one in response.answers] == [("7", 1, 0.875, 0.75)]
    assert (response.usage.trajectories, response.usage.code_steps, response.usage.ppm_calls) == (1, 2, 3)
    steps = [node.step.token_ids for node in result.tree.nodes if node.step is not None]
    assert response.usage.ppm_tokens == 3 * 100 + 3 * len(steps[0]) + 2 * len(steps[1]) + len(steps[2])
    assert (response.answer_latex, response.trajectories_to_answer, response.tree) == ("7", 1, None)
    assert (response.timing_s.total, response.timing_s.queue) == (2.0, 0.5)


async def test_without_an_answer_there_are_no_steps_and_no_confidence() -> None:
    order = Order(problem="3+4", config=SearchConfig(candidates=1), trajectories=4, timeout_s=9.0, seed=0)
    cut_off = step("x = <code>")
    result = await _searched(ScriptedPolicy({(): [cut_off]}), order)
    waited = Waited(total_s=0.0, queue_s=0.0)
    response = response_for(result, search_id="s1", order=order, models=FAKE_MODELS, waited=waited, problem_tokens=100)
    assert (response.answer, response.confidence, response.steps, response.answers) == (None, 0.0, [], [])


async def test_the_tree_is_given_when_it_is_asked_for() -> None:
    order = Order(
        problem="3+4", config=SearchConfig(candidates=1), trajectories=4, timeout_s=9.0, seed=0, returns_tree=True
    )
    first, last = f"\n{FIRST}\n", f"\n{LAST}\n"
    script = ScriptedPolicy({(): [step(FIRST)], (first,): [last_step(LAST)], (first, last): [answer("7")]})
    result = await _searched(script, order)
    waited = Waited(total_s=2.0, queue_s=0.5)
    response = response_for(result, search_id="s1", order=order, models=FAKE_MODELS, waited=waited, problem_tokens=100)
    assert response.tree is not None
    assert [(node.node_id, node.parent, node.outcome) for node in response.tree] == [
        (0, None, "open"),
        (1, 0, "open"),
        (2, 1, "open"),
        (3, 2, "answered"),
    ]
    assert [node.output for node in response.tree] == ["", "7", "7", ""]
    assert response.payload()["tree"] == [node.model_dump() for node in response.tree]
