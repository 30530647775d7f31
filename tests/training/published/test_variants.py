"""Variants: other numbers in text, code and comments alike, where it is certain what stands for what."""

import random
from fractions import Fraction

import pytest

from training.published.numerals import numerals
from training.published.program import Assignment, Program, ProgramStep, literals, parsed, values
from training.published.variants import Variant, variants

SHOP = "Ada sells 45 pens for $3 each and 14 pads for $1.50 each. A fifth of that is tax. What is left?"


def a_program(*lines: str, comment: str = "Do it") -> Program:
    return Program(
        steps=tuple(
            ProgramStep(
                comment=comment, assignments=(Assignment(name=line.split(" = ")[0], expression=line.split(" = ")[1]),)
            )
            for line in lines
        )
    )


def drawn(question: str, *lines: str, count: int = 20, comment: str = "Do it") -> list[Variant]:
    return variants(question, a_program(*lines, comment=comment), rng=random.Random(1), count=count)


@pytest.fixture(scope="module")
def shop() -> list[Variant]:
    return drawn(SHOP, "pens = 45 * 3", "pads = 14 * 1.5", "both = pens + pads", "tax = both / 5", "left = both - tax")


def test_text_and_code_get_the_same_numbers(shop: list[Variant]) -> None:
    assert len({variant.question for variant in shop}) == len(shop) == 20
    for variant in shop:
        stated = {numeral.value for numeral in numerals(variant.question)}
        used = {value for line in variant.program.assignments for value in literals(parsed(line.expression))}
        assert stated <= used <= stated | {Fraction(5)}
        assert variant.question != SHOP


def test_the_answer_is_what_the_program_gives(shop: list[Variant]) -> None:
    for variant in shop:
        assert Fraction(variant.answer) == values(variant.program)["left"]


def test_numbers_stay_similar_and_as_round(shop: list[Variant]) -> None:
    for variant in shop:
        pens, price, pads, pad_price = (numeral.value for numeral in numerals(variant.question))
        assert 23 <= pens <= 90
        assert pens % 5 == 0
        assert price in range(2, 7)
        assert 7 <= pads <= 28
        assert Fraction(3, 4) <= pad_price <= 3
        assert f"${float(pad_price):.2f} each" in variant.question


@pytest.mark.parametrize("variant", drawn("6 cats share 48 mice. One loses 5.", "each = 48 / 6", "left = each - 5"))
def test_values_on_the_way_stay_whole_and_positive(variant: Variant) -> None:
    assert all(value > 0 and value.denominator == 1 for value in values(variant.program).values())


def test_comments_change_with_the_text() -> None:
    [variant] = drawn("Bo has 18 eggs, and 25 more.", "eggs = 18 + 25", comment="Add 18 eggs and 25", count=1)
    first, second = (str(numeral.value) for numeral in numerals(variant.question))
    assert variant.program.steps[0].comment == f"Add {first} eggs and {second}"


def test_percentages_stay_below_a_hundred() -> None:
    found = drawn("What is 80% of 450 apples?", "part = 450 * 80 / 100")
    assert found
    assert all(numerals(variant.question)[0].value < 100 for variant in found)


@pytest.mark.parametrize(
    ("question", "lines"),
    [
        ("Two bags hold 14 kg each, the other 14 kg.", ["kg = 14 + 14"]),
        ("In 2019 there were 7 rains.", ["x = 2019 + 7"]),
        ("At 9:30 or 5 pm, in grade 8.", ["x = 9 + 30 + 5 + 8"]),
        ("Each of three takes 3 nuts.", ["nuts = 3 * 3"]),
        ("Al is 8, his dog is 4.", ["age = 8 * 3"]),
        ("Al is 8.", ["age = 8 * 5"]),
        ("She has 20 pens, gets half as many, and 10 more.", ["half = 20 / 2", "all = 20 + half + 10"]),
    ],
    ids=["stated twice", "a year", "names", "in words", "not used", "of unknown origin", "also a result"],
)
def test_no_number_changes_that_may_stand_for_another(question: str, lines: list[str]) -> None:
    assert drawn(question, *lines) == []


def test_the_same_seed_draws_the_same_variants(shop: list[Variant]) -> None:
    lines = ("pens = 45 * 3", "pads = 14 * 1.5", "both = pens + pads", "tax = both / 5", "left = both - tax")
    assert drawn(SHOP, *lines) == shop
