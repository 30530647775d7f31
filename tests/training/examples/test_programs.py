"""Programs are compared by what they do, not by how they are laid out."""

import pytest

from training.examples.programs import are_near_copies, canonical, program_of, variables


@pytest.mark.parametrize(
    "other",
    [
        "a=12\nb = 18\nprint( a+b )",
        "# Read\na = 12  # the first\n\n\nb = 18\n# Print\nprint(a + b)\n",
        "a = 12; b = 18\nprint((a + b))",
    ],
)
def test_space_and_comments_make_no_other_program(other: str) -> None:
    assert canonical(other) == canonical("a = 12\nb = 18\nprint(a + b)\n")


@pytest.mark.parametrize("other", ["a = 13\nprint(a)", "a = 12\nprint('a')", "b = 12\nprint(b)", "print(12)"])
def test_other_numbers_names_and_texts_make_another_program(other: str) -> None:
    assert canonical(other) != canonical("a = 12\nprint(a)")


def test_where_steps_are_cut_makes_no_other_program() -> None:
    one, other = program_of(["a = 1\nb = 2\n", "print(a + b)\n"]), program_of(["a = 1\n", "b = 2\nprint(a + b)\n"])
    assert canonical(one) == canonical(other)


def test_text_that_is_no_program_is_compared_without_its_space() -> None:
    assert canonical("a = (\n\n  b") == canonical("a  = (\nb\n")
    assert canonical("a = (") != canonical("b = (")


def test_renamed_variables_make_a_near_copy() -> None:
    one = "a = 12\nb = 18\nc = a * b\nprint(c)"
    other = "first = 12\nsecond = 18\nproduct = first * second\nprint(product)"
    assert are_near_copies(one, other)
    assert canonical(one) != canonical(other)


def test_one_different_statement_of_four_makes_a_near_copy() -> None:
    one = "a = 12\nb = 18\nc = a * b\nprint(c)"
    assert are_near_copies(one, one.replace("a * b", "sum([a] * b)"))
    assert not are_near_copies(one, one.replace("a * b", "sum([a] * b)").replace("12", "6 + 6"))


def test_other_functions_make_no_near_copy() -> None:
    one = "import math\nprint(math.gcd(12, 18))"
    assert not are_near_copies(one, one.replace("gcd", "lcm"))
    assert not are_near_copies("print(min(1, 2))", "print(max(1, 2))")


def test_repeated_statements_count_as_often_as_they_stand_there() -> None:
    assert not are_near_copies("a = 1\na += a\na += a\na += a\nprint(a)", "a = 1\na += a\nprint(a)")


def test_variables_are_the_names_assigned() -> None:
    assert variables("a, b = 1, c\nfor d in range(a):\n    e = d\nf += 1\nprint(x)") == {"a", "b", "d", "e", "f"}
    assert variables("a = (") == frozenset()
