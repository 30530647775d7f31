"""Numerals: numbers in digits with their places, and numbers that words say."""

from fractions import Fraction

import pytest

from training.published.numerals import numerals, spelt


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("2 cats eat .5 kg for $1,250.75", ["2", "0.5", "1250.75"]),
        ("In 1/4 of 30% of 12.", ["1", "4", "30", "12"]),
        ("1,2 and 3000,5", ["1", "2", "3000", "5"]),
        ("no number", []),
    ],
)
def test_numbers_in_digits_are_found_in_order(text: str, found: list[str]) -> None:
    assert [numeral.value for numeral in numerals(text)] == [Fraction(value) for value in found]


def test_a_numeral_knows_its_place() -> None:
    [numeral] = numerals("about 1,200 birds")
    assert "about 1,200 birds"[numeral.start : numeral.end] == "1,200"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Three dozen", {3, 12}),
        ("forty-five", {45}),
        ("a ten-dollar bill", {10}),
        ("half as many", {2, Fraction(1, 2)}),
        ("often", set[int]()),
    ],
)
def test_words_say_numbers(text: str, said: set[Fraction]) -> None:
    assert spelt(text) == said
