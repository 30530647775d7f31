r"""LaTeX: expressions are typeset, other answers stay unchanged."""

import pytest

from server.http.responses import MAX_CHARS, latex


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("58", "58"),
        ("-3", "-3"),
        ("1.25", "1.25"),
        ("1.50", "1.50"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("1e-07", r"1 \cdot 10^{-7}"),
        ("3/4", r"\frac{3}{4}"),
        ("-3/4", r"\frac{-3}{4}"),
        ("3*x**2/7 + C", r"\frac{3 x^{2}}{7} + C"),
        ("x**3/3 - 2*x + C", r"\frac{x^{3}}{3} - 2 x + C"),
        ("2*3", r"2 \cdot 3"),
        ("(x + 1)*(x - 1)", r"\left(x + 1\right) \left(x - 1\right)"),
        ("(x + 1)**2", r"\left(x + 1\right)^{2}"),
        ("(-x)**2", r"\left(-x\right)^{2}"),
        ("a - (b - c)", r"a - \left(b - c\right)"),
        ("(3, pi/2)", r"\left(3, \frac{\pi}{2}\right)"),
        ("[1, 2]", r"\left[1, 2\right]"),
        ("{1, 2}", r"\left\{1, 2\right\}"),
        ("2*sqrt(3)", r"2 \sqrt{3}"),
        ("Fraction(3, 4)", r"\frac{3}{4}"),
        ("x1 + 2*I", r"x_{1} + 2 i"),
    ],
)
def test_an_expression_is_set(answer: str, expected: str) -> None:
    assert latex(answer) == expected


@pytest.mark.parametrize(
    "answer",
    [
        r"\frac{1}{2}",
        r"\text{Evelyn}",
        "",
        "7 apples",
        "09:30",
        "True",
        "5 = x",
        "x == 5",
        "0x1F and more",
        "__import__('os').system('id')",
        "open('file')",
        "a.b",
        "[]",
        "9" * 5000,
        "(" * 500 + "1" + ")" * 500,
        "-" * 1500 + "1",
        "x" * (MAX_CHARS + 1),
        "1_000",
        "0x1F",
        "\x00",
        "'text'",
    ],
)
def test_anything_else_stays_as_it_is(answer: str) -> None:
    assert latex(answer) == answer
