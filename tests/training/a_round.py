"""A round with trees made by hand, for the tests of everything that reads the files of a round."""

from collections.abc import Mapping, Sequence

from search import Tree
from search.testing.trees import add_trajectory
from training.problems.problem import Problem
from training.recipe import Label
from training.records import appending
from training.rollouts import tree_result
from training.round_files import RoundFiles


def a_problem(name: str, *, label: Label = Label.EXACT) -> Problem:
    """A problem whose right answer is 6."""
    return Problem(id=name, group="sums", question=f"{name}: 1+2+3", answer="6", source="made.json", label=label)


def a_tree(problem: Problem, *, right: int = 0, wrong: int = 0) -> Tree:
    """That many right and wrong trajectories, which have no step in common."""
    tree = Tree(problem.question)
    for number in range(right):
        add_trajectory(tree, [f"a = {number}", f"b = a + {number}", "print(6)"], "6", is_right=True)
    for number in range(wrong):
        add_trajectory(tree, [f"x = {number}", f"y = x - {number}", "print(y)"], str(number + 7), is_right=False)
    return tree


def write_trees(files: RoundFiles, trees: Mapping[Problem, Sequence[Tree]]) -> None:
    """Keep the trees of each problem as a round does."""
    with appending(files["trees"] / "part-0.jsonl") as append:
        for problem, found in trees.items():
            for number, tree in enumerate(found):
                append({"key": f"{problem.id}#{number}", "result": tree_result(problem, tree)})
