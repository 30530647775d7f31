"""Equations: solved for their unknown, as a formula over their numbers."""

import ast

import pytest

from training.published.equations import solved
from training.published.program import Refused


@pytest.mark.parametrize(
    ("equation", "name", "formula"),
    [
        ("X = 9 - 4", "X", "9 - 4"),
        ("(3+5)*2=x", "x", "(3 + 5) * 2"),
        ("3 + 5", "x", "3 + 5"),
        ("14 + x = 46", "x", "46 - 14"),
        ("x - 14 = 46", "x", "46 + 14"),
        ("50 - x = 46", "x", "50 - 46"),
        ("60 = 5 * x", "x", "60 / 5"),
        ("x / 5 = 60", "x", "60 * 5"),
        ("60 / x = 5", "x", "60 / 5"),
        ("(x + 4) / 2 = 34", "x", "34 * 2 - 4"),
        ("(45*hours)+225=450", "hours", "(450 - 225) / 45"),
        ("18+(3*miles)=10+(5*miles)", "miles", "(18 - 10) / (5 - 3)"),
        ("2*(4+n)=6*n", "n", "4 * 2 / (6 - 2)"),
        ("3*n-8=n", "n", "8 / (3 - 1)"),
        ("n+n/4=10", "n", "10 / (1 + 1 / 4)"),
    ],
)
def test_an_equation_is_solved_for_its_unknown(equation: str, name: str, formula: str) -> None:
    found, tree = solved(equation)
    assert (found, ast.unparse(tree)) == (name, formula)


@pytest.mark.parametrize("equation", ["9=3+6", "x+y=5", "x*x=9", "1/(x+1)=x", "2*x=2*x+1", "a=b=c", "*x=3", "x**2=9"])
def test_what_is_not_linear_in_one_unknown_is_refused(equation: str) -> None:
    with pytest.raises(Refused):
        solved(equation)
