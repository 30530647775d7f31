"""Problems are held out by their id alone, so that no problem is ever on both sides."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from search import Tree
from search.testing.trees import add_trajectory
from training.examples.preferences import pairs
from training.examples.splitting import is_held_out
from training.examples.values import outcome_values, step_values
from training.recipe import Examples

ROOT = Path(__file__).parents[3]
IDS = [f"gcd/train/{number}" for number in range(10_000)]


def test_about_the_wanted_share_of_the_problems_is_held_out() -> None:
    assert 900 < sum(is_held_out(problem_id, share=0.1) for problem_id in IDS) < 1100
    assert not any(is_held_out(problem_id, share=0.0) for problem_id in IDS)
    assert all(is_held_out(problem_id, share=1.0) for problem_id in IDS)


@given(st.text(), st.lists(st.floats(0, 1)))
def test_a_problem_held_out_stays_so_at_a_greater_share(problem_id: str, shares: list[float]) -> None:
    sides = [is_held_out(problem_id, share=share) for share in sorted(shares)]
    assert all(not before or after for before, after in pairwise(sides))


def test_another_process_holds_out_the_same_problems() -> None:
    names = IDS[:200]
    code = f"from training.examples.splitting import is_held_out as h; print([h(n, share=0.3) for n in {names}])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=ROOT).stdout
    assert printed.strip() == str([is_held_out(name, share=0.3) for name in names])


@given(st.text())
def test_all_examples_of_a_problem_are_on_one_side(problem_id: str) -> None:
    tree = Tree("p")
    add_trajectory(tree, ["a", "b"], "1", is_right=True)
    add_trajectory(tree, ["c", "d"], "2", is_right=False)
    examples = [
        *pairs(problem_id, [tree], Examples()),
        *step_values(problem_id, [tree]),
        *outcome_values(problem_id, [tree]),
    ]
    assert len({is_held_out(example.problem_id, share=0.5) for example in examples}) == 1
