"""A perturbed step has one number, operator or pair of variables changed, and makes a pair if the result differs."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import CandidateStop, Tree
from search.testing.trees import add_trajectory
from training.examples.perturbations import Perturbation, perturbations, perturbed, perturbed_pair
from training.examples.programs import canonical

STEPS = ["# Read 3 numbers\na = 12\nb = 18\n", "# Add 2 of them\nc = a + b\n", "# Show\nprint(c)\n"]


def changes(text: str, *earlier: str) -> set[str]:
    """All changes that can be drawn."""
    drawn = {perturbed(text, random.Random(seed), earlier=frozenset(earlier)) for seed in range(200)}
    return {change for change in drawn if change is not None}


def tree(*programs: list[str]) -> Tree:
    """A tree in which all of these are right."""
    grown = Tree("p")
    for program in programs:
        add_trajectory(grown, program, "30", is_right=True)
    return grown


def proposed(*trees: Tree, seed: int = 0, count: int = 10) -> list[Perturbation]:
    return perturbations("p", trees or [tree(STEPS)], rng=random.Random(seed), count=count)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 5", {"a = 4", "a = 6"}),
        ("a = 0", {"a = 1"}),
        ("a = 12", {"a = 11", "a = 13", "a = 21"}),
        ("a = 10", {"a = 9", "a = 11", "a = 1"}),
        ("a = 0.15", {"a = 0.14", "a = 0.16", "a = 0.51"}),
        ("a = 1.0", {"a = 0.9", "a = 1.1", "a = 0.1"}),
        ("a = 9.99", {"a = 9.98", "a = 10.00"}),
        ("a = -7", {"a = -6", "a = -8"}),
        ("a = x + y", {"a = x - y"}),
        ("a = x * y", {"a = x + y", "a = x / y"}),
        ("a = x // y", {"a = x % y", "a = x * y"}),
        ("a = x ** y", {"a = x * y"}),
        ("a += x", {"a -= x"}),
        ("a = (x)[y] - z", {"a = (x)[y] + z"}),
    ],
)
def test_one_number_or_operator_is_changed(text: str, expected: set[str]) -> None:
    assert changes(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "print(total)",
        "# 3 + 4 is 7",
        "print('1 + 2', f'{x + 1:.2f}')",
        "print(*rows, **options)",
        "a = -x",
        "def f(x):\n    return -x",
        "a = x if y else -z",
        "a = '-' * n",
        "a = '%d' % n",
        "a = x == y",
        "from math import *",
        "a = 1e-9",
        "a = 2j",
        "a = 0x10",
        "a = (",
        "",
    ],
)
def test_what_is_no_number_or_operator_is_left_alone(text: str) -> None:
    assert changes(text) == set()


def test_two_variables_of_earlier_steps_are_swapped() -> None:
    assert changes("c = f(a, b, a)", "a", "b") == {"c = f(b, a, b)"}
    assert changes("c = f(a, a=b)", "a", "b") == {"c = f(b, a=a)"}


@pytest.mark.parametrize("text", ["c = f(a)", "c = f(a, b=1j)", "c = a.b", "b = f(a)\nc = f(b)"])
def test_other_names_are_not_swapped(text: str) -> None:
    assert changes(text, "a", "b") == set()


def test_comments_and_layout_stay() -> None:
    text = "\n# Add 1 to é\n\nfor é in  (a ,b):   # 2 times\n    c  = é+ 1\n"
    assert changes(text) == {text.replace("é+ 1", other) for other in ("é- 1", "é+ 2", "é+ 0")}


@given(st.integers(0, 10**6), st.sampled_from(STEPS))
def test_a_change_is_one_and_changes_the_program(seed: int, text: str) -> None:
    changed = perturbed(text, random.Random(seed), earlier=frozenset({"a", "b"}))
    if changed is None:
        assert text == STEPS[2]
        return
    assert canonical(changed) != canonical(text)
    assert [line for line in changed.splitlines() if line.startswith("#")] == [text.splitlines()[0]]
    differing = [pair for pair in zip(text.splitlines(), changed.splitlines(), strict=True) if pair[0] != pair[1]]
    assert len(differing) == 1


def test_the_same_seed_gives_the_same_perturbations() -> None:
    assert proposed(seed=1) == proposed(seed=1)
    assert len({tuple(one.program for one in proposed(seed=seed)) for seed in range(20)}) > 1


def test_the_whole_changed_program_is_proposed() -> None:
    for one in proposed():
        right, changed = one.right.steps, one.changed.steps
        assert right[:-1] == changed[:-1]
        assert right[-1].text != changed[-1].text
        place = len(changed) - 1
        assert one.program == (*STEPS[:place], changed[-1].text, *STEPS[place + 1 :])
        assert one.right_output == "30"
    assert {len(one.changed.steps) for one in proposed()} == {1, 2}


def test_no_more_are_proposed_than_asked_for() -> None:
    assert len(proposed(count=1)) == 1
    assert proposed(count=0) == []


def test_a_step_is_changed_once_however_many_solutions_share_it() -> None:
    found = proposed(tree(STEPS, [*STEPS[:2], "print(b + a)\n"], [*STEPS[:2], "print(sum([c]))\n"]))
    places = [one.right for one in found]
    assert len(set(places)) == len(places) == 3


def test_a_change_that_the_policy_proposed_too_is_left_out() -> None:
    step = "c = 5\n"
    grown = tree([step, "print(c)\n"], ["c=4  # or so\n", "print(c + 0)\n"], ["c = 6\n", "print(0 + c)\n"])
    assert {one.right.steps[0].text for one in proposed(grown) if len(one.right.steps) == 1} <= {
        "c=4  # or so\n",
        "c = 6\n",
    }


def test_wrong_solutions_are_not_perturbed() -> None:
    grown = Tree("p")
    add_trajectory(grown, STEPS, "31", is_right=False)
    assert proposed(grown) == []


def first(*, last: bool = False) -> Perturbation:
    """A change to the first step, or to the only one."""
    found = proposed(tree(["print(12 + 18)\n"]) if last else tree(STEPS))
    return next(one for one in found if len(one.changed.steps) == 1)


def test_another_result_makes_a_pair() -> None:
    one = first()
    pair = perturbed_pair(one, "31")
    assert pair is not None
    assert (pair.better, pair.worse, pair.weight, pair.problem_id) == (one.right, one.changed, 1.0, "p")


def test_a_last_step_shows_what_the_changed_program_printed() -> None:
    one = first(last=True)
    assert (one.changed.steps[-1].stop, one.changed.steps[-1].output) == (CandidateStop.END_OF_CODE, None)
    pair = perturbed_pair(one, "31")
    assert pair is not None
    assert (pair.better.steps[-1].output, pair.worse.steps[-1].output) == ("30", "31")


@pytest.mark.parametrize("output", [None, "", " \n", "30", " 30\n", "30.0", "5\n30"])
def test_no_other_result_makes_no_pair(output: str | None) -> None:
    assert perturbed_pair(first(), output) is None


@pytest.mark.parametrize(
    ("right", "other", "is_same"),
    [
        ("3.14", "3.142", True),
        ("3.14", "3.2", False),
        ("1000000", "1000001", False),
        ("0.00001", "0.00002", False),
        ("12 apples", "12 pears", False),
        ("x = 2", "x = 2.0", True),
        ("2, 3", "3, 2", False),
        ("2**3", "2**4", False),
        ("1e400", "2e400", False),
        ("-5", "5", False),
        ("3/4", "3/5", False),
        ("-3", "- 3", False),
        ("", "", True),
    ],
)
def test_numbers_rounded_differently_are_one_result(right: str, other: str, *, is_same: bool) -> None:
    one = first()
    changed = Perturbation(
        problem_id="p", right=one.right, changed=one.changed, program=one.program, right_output=right
    )
    assert (perturbed_pair(changed, other) is None) is is_same
