"""Solutions are the best right trajectories, each program once, and distinct programs first."""

from dataclasses import replace

import pytest

from search import Execution, ExecutionOutcome, NodeId, Tree
from search.testing.trees import add_answer, add_step, add_trajectory, end_trajectory
from search.tree import ROOT
from training.examples.solutions import solutions, with_fallbacks
from training.problems.problem import Problem
from training.recipe import Examples
from training.records import Trajectory

PROBLEM = Problem(id="sum/1", group="sum", question="p", answer="6", source="test")
SETTINGS = Examples()

DIRECT = ["print(1 + 2 + 3)"]
BY_SUM = ["numbers = [1, 2, 3]", "print(sum(numbers))"]
STEPWISE = ["a = 1", "b = a + 2", "c = b + 3", "print(c)"]
RENAMED = ["x = 1", "y = x + 2", "z = y + 3", "print(z)"]


def found(*trees: Tree, settings: Examples = SETTINGS) -> list[list[str]]:
    return [list(one.steps) for one in solutions(PROBLEM, trees, settings, source="round 1")]


def add(tree: Tree, steps: list[str], *, wrong_siblings: int = 0) -> NodeId:
    """A right trajectory whose mean Q falls with the number of wrong ones through its first step."""
    for number in range(wrong_siblings):
        add_trajectory(tree, [*steps[:1], f"wrong = {number}"], str(100 + number), is_right=False)
    return add_trajectory(tree, steps, "6", is_right=True)


def test_a_solution_records_its_steps_output_answer_and_source() -> None:
    tree = Tree("p")
    add(tree, BY_SUM)
    assert solutions(PROBLEM, [tree], SETTINGS, source="round 2") == [
        Trajectory(
            problem_id="sum/1",
            group="sum",
            question="p",
            steps=tuple(BY_SUM),
            output="6",
            answer="6",
            is_right=True,
            source="round 2",
        )
    ]


def test_the_two_of_highest_mean_q_are_taken() -> None:
    tree = Tree("p")
    add(tree, STEPWISE, wrong_siblings=9)
    add(tree, BY_SUM, wrong_siblings=1)
    add(tree, ["print(3 + 2 + 1)"])
    assert found(tree) == [["print(3 + 2 + 1)"], BY_SUM]
    assert found(tree, settings=Examples(solutions=1)) == [["print(3 + 2 + 1)"]]


def test_all_trees_of_a_problem_are_ranked_together() -> None:
    one, other = Tree("p"), Tree("p")
    add(one, BY_SUM, wrong_siblings=2)
    add(other, STEPWISE)
    assert found(one, other) == [STEPWISE, BY_SUM]


def test_ties_go_to_the_first_found() -> None:
    one, other = Tree("p"), Tree("p")
    for tree, programs in ((one, [BY_SUM, DIRECT]), (other, [STEPWISE])):
        for program in programs:
            add(tree, program)
    assert found(one, other) == [BY_SUM, DIRECT]
    assert found(other, one) == [STEPWISE, BY_SUM]


def test_a_program_counts_once_however_it_is_commented() -> None:
    tree = Tree("p")
    add(tree, BY_SUM)
    add(tree, ["# All of them\nnumbers=[1,2,3]", "print( sum(numbers) )  # the sum"])
    assert found(tree) == [BY_SUM]


def test_a_different_program_is_preferred_to_a_better_near_copy() -> None:
    tree = Tree("p")
    add(tree, STEPWISE)
    add(tree, RENAMED)
    assert found(tree) == [STEPWISE, RENAMED]
    add(tree, BY_SUM, wrong_siblings=1)
    assert found(tree) == [STEPWISE, BY_SUM]


def test_a_problem_that_was_not_searched_has_no_solutions() -> None:
    assert found() == []


def test_wrong_and_failed_trajectories_are_no_solutions() -> None:
    tree = Tree("p")
    add_trajectory(tree, DIRECT, "7", is_right=False)
    end_trajectory(tree, add_step(tree, ROOT, "fail()", outcome=ExecutionOutcome.ERROR))
    assert found(tree) == []


def test_a_right_answer_that_was_not_reached_is_no_solution() -> None:
    tree = Tree("p")
    add_answer(tree, add_step(tree, ROOT, "print(6)", output="6"), "6", is_right=True)
    assert found(tree) == []


def test_a_solution_with_a_step_that_failed_is_left_out() -> None:
    tree = Tree("p")
    add(tree, BY_SUM)
    tree.nodes[1].execution = Execution(outcome=ExecutionOutcome.LOST)
    assert found(tree) == []


def trajectory(problem_id: str, source: str, *, is_right: bool = True) -> Trajectory:
    return Trajectory(
        problem_id=problem_id,
        group="sum",
        question="p",
        steps=("print(6)",),
        output="6",
        answer="6",
        is_right=is_right,
        source=source,
    )


def test_the_newest_round_with_solutions_is_taken_whole() -> None:
    newest = {"a": [trajectory("a", "round 2")], "b": []}
    oldest = {name: [trajectory(name, "round 1"), trajectory(name, "round 1")] for name in ("a", "b")}
    chosen = with_fallbacks(["a", "b", "c"], [newest, oldest], {}, SETTINGS)
    assert [(one.problem_id, one.source) for one in chosen] == [("a", "round 2"), ("b", "round 1"), ("b", "round 1")]


def test_no_more_fallbacks_than_solutions_are_taken() -> None:
    shown = {"a": [trajectory("a", f"way {number}") for number in range(3)]}
    earlier = {"b": [trajectory("b", "round 1")] * 3}
    chosen = with_fallbacks(["a", "b"], [earlier], shown, Examples(solutions=2, demonstrations="unsolved"))
    assert [one.problem_id for one in chosen] == ["a", "a", "b", "b"]


@pytest.mark.parametrize(("demonstrations", "sources"), [("none", ["round 1"]), ("unsolved", ["round 1", "shown"])])
def test_demonstrations_stand_in_only_where_the_recipe_says(demonstrations: str, sources: list[str]) -> None:
    settings = Examples.model_validate({"demonstrations": demonstrations})
    shown = {name: [trajectory(name, "euclid")] for name in ("a", "b")}
    chosen = with_fallbacks(["a", "b"], [{"a": [trajectory("a", "round 1")]}], shown, settings)
    assert [one.source.replace("demonstration: euclid", "shown") for one in chosen] == sources


def test_a_wrong_demonstration_is_not_taken() -> None:
    shown = {"a": [replace(trajectory("a", "misreads"), is_right=False)]}
    assert with_fallbacks(["a"], [], shown, Examples(demonstrations="unsolved")) == []
