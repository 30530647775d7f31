"""The comparison of two answers, as tables of pairs: the same, different, and unknown."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search.outcomes import Verdict
from server.answers.comparison import compare, decide_exactly

SAME = [
    ("5", "5.0"),
    ("+5", "5"),
    ("1.0e3", "1000"),
    ("1e3", "1,000"),
    ("0.50", "0.5"),
    ("0.5", "1/2"),
    (r"\frac12", "0.5"),
    (r"\dfrac{1}{2}", r"\tfrac 1 2"),
    (r"\frac{\sqrt{3}}2", r"\frac{\sqrt3}{2}"),
    ("1{,}000", "1,000"),
    (r"10,\!080", "10080"),
    (r"11,\! 111,\! 111,\! 100", "11111111100"),
    (r"1\,000\,000", "1000000"),
    ("$5$", "5."),
    (r"\boxed{5}", r"\(5\)"),
    (r"\$18.90", "$18.90"),
    (r"\$36", "36 dollars"),
    (r"-\$5", r"\$-5"),
    ("50%", r"50\%"),
    ("50%", "0.5"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90 degrees"),
    (r"\frac{270}7\text{ degrees}", r"\frac{270}{7}^\circ"),
    (r"15\mbox{ cm}^2", "15"),
    (r"15\mbox{ cm}^2", "15 cm^2"),
    (r"864 \mbox{ inches}^2", "864 square inches"),
    (r"5.4 \text{ cents}", "5.4"),
    ("5 million dollars", r"\$5,000,000"),
    ("50 percent", r"50\%"),
    ("5 dozen", "60"),
    ("25 miles per hour", "25 mph"),
    ("1 4/5", r"1\frac{4}{5}"),
    (r"137 \frac{1}{2}", "137.5"),
    (r"-1\frac{4}{5}", "-1.8"),
    (r"1.92 \times 10^{-24}", "1.92e-24"),
    (".0000672", r"6.72 \times 10^{-5}"),
    ("2^{10}", "1024"),
    (r"\sqrt{16}", "4"),
    (r"\sqrt[3]{-8}", "-2"),
    (r"\log_{10} 100", "2"),
    (r"\binom{5}{2}", "10"),
    ("5!", "120"),
    ("sqrt(2)/2", r"\frac{\sqrt{2}}{2}"),
    (r"\frac{1}{\sqrt2}", r"\frac{\sqrt{2}}{2}"),
    (r"\sqrt{3+2\sqrt2}", r"1+\sqrt{2}"),
    (r"11\sqrt2", "11√2"),
    (r"2\pi r", r"2 r π"),
    (r"\sin^2 x + \cos^2 x", "1"),
    ("x^10", "x^{10}"),
    ("x**2", "x^2"),
    ("(x+1)^2", "x^2+2x+1"),
    (r"\frac{x+1}{2}", "0.5x + 0.5"),
    ("(a+5)(b+2)", "ab + 2a + 5b + 10"),
    ("-7*X**9 + 7*X**5 + C", "-7X^9 + 7X^5 + C"),
    ("7*X**5 - 7*X**9 + C", "-7X^9 + 7X^5 + C"),
    ("-10.0 - 4.0i", "-10 - 4i"),
    ("(1+i)^2", "2i"),
    (r"e^{i\pi}", "-1"),
    ("-0.1429, 0.0", "-0.1429, 0"),
    ("1,-2", "-2, 1"),
    ("3, 5, 7", "3,5 and 7"),
    ("(1,2)", r"\left( 1,\ 2 \right)"),
    ("(3, π/2)", r"\left( 3, \frac{\pi}{2} \right)"),
    ("[0,1)", r"\left[0, 1\right)"),
    ("{1,2}", r"\{2, 1\}"),
    (r"\{1,1,2\}", r"\{1,2\}"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"\{1\pm\sqrt{5},-2\}", r"\{-2, 1-\sqrt5, 1+\sqrt5\}"),
    (r"(-\infty, 2) \cup (3, \infty)", "(3,oo) U (-oo,2)"),
    (r"(0,2) \cup (1,3)", "(0,3)"),
    (r"x \in [-2,7]", r"-2 \le x \le 7"),
    (r"x \in [-2,7]", "[-2,7]"),
    ("x > 3", r"(3,\infty)"),
    ("3 < x", "x > 3"),
    ("x=3", "3"),
    ("x = 3", "3 = x"),
    ("x=1 or x=2", "1, 2"),
    ("(x,y) = (1,2)", "(1,2)"),
    ("y = 2x + 3", "2x - y + 3 = 0"),
    ("5x - 7y + 11z + 4 = 0", "-10x + 14y - 22z = 8"),
    ("2 × 2 × 3", r"2^2 \times 3"),
    ("2 * 2 * 3", r"2 \cdot 3 \cdot 2"),
    ("07:25", "7:25"),
    ("12 days, 03:10", "12 days,  03:10"),
    ("204_5", "204_{5}"),
    ("1b0", "1B0"),
    (r"\text{Evelyn}", "Evelyn"),
    ("Even", r"\text{even}"),
    (r"\text{(B)}", "B"),
    (r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}", r"\begin{bmatrix} -\frac13 \\ \frac{2}{3} \end{bmatrix}"),
    (r"\int_0^1 \dfrac{x}{2} dx", r"$\int_0^1 \frac{x}{2} dx$"),
    ("10^{10^{10}}", "10^{ 10^{10} }"),
]

DIFFERENT = [
    ("50", "5000"),
    ("0.05", "5"),
    ("100000", "100001"),
    ("12345678", "12345999"),
    ("1/3", "0.3333"),
    ("1/3", "0.333333333333"),
    ("0.0000001", "0.0000002"),
    (r"10^{-60}\pi", r"2 \cdot 10^{-60}\pi"),
    (r"10^{60}\pi", r"10^{60}\pi + 1"),
    ("10000000000000000000001", "1e22"),
    ("50%", "50"),
    ("5 million", "5"),
    ("50 percent", "50"),
    (r"\sqrt{2}", "1.41421356237"),
    (r"\pi", "3.14159265358979"),
    ("(1,2)", "[1,2]"),
    ("(1,2)", "(2,1)"),
    ("(1,2)", "(1,2,3)"),
    ("[0,1)", "(0,1]"),
    ("[0,1)", "[0,1]"),
    ("{1,2}", "(1,2)"),
    ("{1,2}", "[1,2]"),
    ("{1,2}", "{1,3}"),
    ("x+c", "x+d"),
    ("3-t", "3-s"),
    ("3r^2", "3R^2"),
    ("x^2", "x"),
    ("5:7", "7"),
    ("5:7", "5"),
    ("5:7", "5:8"),
    ("07:25", "07:26"),
    ("12 days, 03:10", "12 days, 03:11"),
    ("12 days, 03:10", "3:10"),
    ("18 days, 21:21:12", "67 days, 01:04:00"),
    ("34 days", "01:45:29.840"),
    ("cc", "3a0"),
    ("cc", "cd"),
    ("Evelyn", "x+1"),
    ("x=3", "y=3"),
    ("x=3", "4"),
    ("x<3", "y<3"),
    ("x<3", r"x \le 3"),
    ("y = 2x+3", "y = 2x+4"),
    ("x^2+y^2=1", "x^2+y^2=4"),
    ("A or B", "B"),
    ("A", "B"),
    (r"\text{(B)}", r"\text{(C)}"),
    ("Evelyn", "Navin"),
    ("yes", "no"),
    ("east", "7"),
    ("3f", "3"),
    ("1b0", "1b1"),
    ("1b0", "1"),
    ("204_5", "205_5"),
    ("1, 2", "1"),
    ("1, 1, 2", "1, 2"),
    ("2 × 3 × 5", "2 × 3 × 7"),
    ("2 × 3 × 5", "31"),
    ("-7*X**9 + C", "-7*X**9"),
    ("2+3i", "2-3i"),
    ("(0,9) \\cup (9,36)", "(0,36)"),
    (r"(-\infty, 2)", r"(-\infty, 3)"),
    (r"\infty", "5"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}"),
]

UNKNOWN = [
    ("5 cm", "5 inches"),
    ("100 cm", "1 \\text{ m}"),
    (r"5\text{ m}", "5m"),
    ("y=3", "3"),
    ("2 × 2 × 3", "12"),
    ("2 × 3 × 5 × 7", "2 × 3 × 35"),
    ("5:7", "10:14"),
    ("5:7", "5/7"),
    ("2 thirds", "2"),
    ("5 squared", "5"),
    ("5 factorial", "5"),
    ("5 apples", "5 oranges"),
    ("2:30", "150 minutes"),
    ("24:00:00", "1 day"),
    ("204_5", "204"),
    ("204_5", "54"),
    ("1, 200", "1,200"),
    ("3, 4", "(3, 4)"),
    (r"\{5\}", "5"),
    (r"\langle 1, 2 \rangle", "(1, 2)"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
    ("2ab", "2ba"),
    ("3f", "3F"),
    ("ab", "ba"),
    ("ab", r"a \cdot b"),
    ("five", "5"),
    ("no solution", r"\emptyset"),
    (r"\sqrt{x^2}", "x"),
    ("|xy|", "xy"),
    (r"\log 100", "2"),
    ("1/2x", "x/2"),
    ("1/0", "2/0"),
    ("9**9**9", "1"),
    ("10^{10^{10}}", "5"),
    ("(-8)^{1/3}", "-2"),
    (r"2\frac{3}{2}", "3"),
    ("1 2", "12"),
    (r"\int_0^1 x dx", "0.5"),
    (r"0.\overline{3}", "1/3"),
    ("((((1", "1"),
    ("", "5"),
    ("one can see that the answer must be at least five", "the answer is five as one can see at once"),
]

TABLE = [
    *((*pair, Verdict.SAME) for pair in SAME),
    *((*pair, Verdict.DIFFERENT) for pair in DIFFERENT),
    *((*pair, Verdict.UNKNOWN) for pair in UNKNOWN),
]


@pytest.mark.parametrize(("a", "b", "verdict"), TABLE)
def test_pair_has_its_verdict_in_both_orders(a: str, b: str, verdict: Verdict) -> None:
    assert (compare(a, b), compare(b, a)) == (verdict, verdict)


@pytest.mark.parametrize("answer", sorted({answer for pair in TABLE for answer in pair[:2]}))
def test_answer_equals_itself(answer: str) -> None:
    assert compare(answer, answer) is Verdict.SAME
    assert compare(f" {answer}\n", answer) is Verdict.SAME


def test_exact_decisions_agree_and_cover_most_pairs() -> None:
    decided = {(a, b): decide_exactly(a, b) for a, b, _ in TABLE}
    assert all(decided[a, b] in (verdict, None) for a, b, verdict in TABLE)
    assert sum(verdict is not None for verdict in decided.values()) > 0.75 * len(TABLE)


@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_equal_answers_agree_about_every_third_answer(every: int) -> None:
    """An answer that equals one of two equal answers is not different from the other."""
    answers = sorted({answer for pair in TABLE for answer in pair[:2]})[::every]
    for a, b in SAME:
        for c in answers:
            verdicts = {decide_exactly(a, c), decide_exactly(b, c)}
            assert verdicts != {Verdict.SAME, Verdict.DIFFERENT}, f"{a} = {b}, but {c} is the same as one only"


@st.composite
def _spelled_numbers(draw: st.DrawFn) -> tuple[Fraction, str]:
    """A number and one of its spellings. Few values, so that equal ones meet."""
    number = Fraction(draw(st.integers(-6, 6)), draw(st.integers(1, 4)))
    top, bottom = number.numerator, number.denominator
    scale = draw(st.integers(1, 9))
    sign = "-" if top < 0 else ""
    spellings = [
        f"{top}/{bottom}",
        f"{sign}\\frac{{{abs(top) * scale}}}{{{bottom * scale}}}",
        f"${sign}\\dfrac{{{abs(top)}}}{{{bottom}}}$",
        f"\\left({top}\\right)/{bottom}.",
        f"{top * scale} / ({bottom} * {scale})",
        f"x = {top}/{bottom}",
        f"{top - bottom}/{bottom} + 1",
        f"{1000 * top}/{1000 * bottom:,}",
    ]
    return number, draw(st.sampled_from(spellings))


@given(_spelled_numbers(), _spelled_numbers())
@settings(max_examples=200, deadline=None, derandomize=True)
def test_spelled_numbers_are_the_same_only_if_equal(a: tuple[Fraction, str], b: tuple[Fraction, str]) -> None:
    expected = Verdict.SAME if a[0] == b[0] else Verdict.DIFFERENT
    assert compare(a[1], b[1]) is expected
    assert compare(b[1], a[1]) is expected
