"""Perturbing: changed programs run in the sandbox, and those that print another result give pairs."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sandbox import Sandbox, wanted_level
from search import Tree
from search.testing.trees import add_trajectory
from server.parts.runner import STEP_LIMITS
from tests.training.a_round import a_problem, write_trees
from training.examples.preferences import read_pair
from training.perturbing import Perturb, run_program
from training.round_files import RoundFiles

pytestmark = pytest.mark.slow


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(limits=STEP_LIMITS, workers=2, min_level=wanted_level(os.environ)) as opened:
        yield opened


async def test_a_program_shows_what_its_steps_print(sandbox: Sandbox) -> None:
    assert await run_program(sandbox, ["a = 2\nprint(a)", "b = a * 21", "print(b)"], seed=1) == "2\n42"


@pytest.mark.parametrize(
    "steps",
    [["a = 1 / 0", "print(1)"], ["a = 1", "print(missing)"], ["print(1", "print(2)"], ["exit()", "print(1)"]],
)
async def test_a_program_with_a_failed_step_shows_nothing(sandbox: Sandbox, steps: list[str]) -> None:
    assert await run_program(sandbox, steps, seed=1) is None


async def test_changes_that_spoil_the_result_give_pairs(tmp_path: Path) -> None:
    files, problem = RoundFiles(tmp_path, 1), a_problem("sum")
    tree = Tree(problem.question)
    steps = ["a = 1 + 2", "b = a + 3", "print(b)"]
    add_trajectory(tree, steps, "6", is_right=True)
    write_trees(files, {problem: [tree]})
    async with Perturb(trees=files["trees"], count=5, seed=1).open() as perturb:
        result = await perturb("sum")
        again = await perturb("sum")
    assert result == again
    assert result["tried"] == 2  # print(b) holds nothing to change
    found = [read_pair(record) for record in result["pairs"]]
    assert found
    for pair in found:
        *prefix, right = [step.text for step in pair.better.steps]
        *same_prefix, changed = [step.text for step in pair.worse.steps]
        assert [*prefix, right] == steps[: len(prefix) + 1]
        assert prefix == same_prefix
        assert changed != right
        assert (pair.problem_id, pair.weight) == ("sum", 1.0)


async def test_changes_that_leave_the_result_give_no_pair(tmp_path: Path) -> None:
    files, problem = RoundFiles(tmp_path, 1), a_problem("sum")
    tree = Tree(problem.question)
    add_trajectory(tree, ["unused = 5", "print(6)"], "6", is_right=True)
    write_trees(files, {problem: [tree]})
    async with Perturb(trees=files["trees"], count=5, seed=1).open() as perturb:
        result = await perturb("sum")
    assert result["tried"] == 2
    assert [pair["worse"][0]["text"].startswith("print") for pair in result["pairs"]] == [True]
