"""Readings: what else a form could be taken for. `rules` asks before it calls two kinds of form different."""

from contextlib import suppress
from fractions import Fraction

from server.answers.exact import rational_value
from server.answers.terms import (
    Colon,
    Expression,
    Form,
    Member,
    Numeral,
    Quantity,
    Relation,
    Sequence,
    Shape,
    Symbol,
    letters_in,
)

_SECONDS = {"s": 1, "minute": 60, "h": 3600, "day": 86_400}


def solved_for(form: Relation | Member) -> tuple[str, Form] | None:
    """Letter and value of `letter = value`, `value = letter` or `letter ∈ value`."""
    match form:
        case Member(letter, container):
            return letter, container
        case Relation((Quantity(Symbol(letter), None), value), ("=",)) if letter not in letters_in(value):
            return letter, value
        case Relation((value, Quantity(Symbol(letter), None)), ("=",)) if letter not in letters_in(value):
            return letter, value
        case _:
            return None


def proportion_of(parts: tuple[Expression, ...]) -> Fraction | None:
    """a/b of a:b."""
    match [rational_value(Quantity(part)) for part in parts]:
        case [Fraction() as top, Fraction() as bottom] if bottom:
            return top / bottom
        case _:
            return None


def is_clock_reading(colon: Colon, quantity: Quantity) -> bool:
    """Whether a:b or a:b:c may mean the quantity: as a ratio, or as a time in its unit; also where neither is known."""
    value = rational_value(quantity)
    parts = [rational_value(Quantity(part)) for part in colon.parts]
    known = [part for part in parts if part is not None]
    if value is None or len(known) < len(parts):
        return True
    if quantity.unit not in _SECONDS:
        return value == proportion_of(colon.parts)
    # 2:30 is two and a half hours or minutes; with three parts the first are hours.
    firsts = (3600,) if len(known) > 2 else (3600, 60)
    times = {sum(part * first / Fraction(60) ** place for place, part in enumerate(known)) for first in firsts}
    return value * _SECONDS[quantity.unit] in times


def is_numeral_reading(numeral: Numeral, quantity: Quantity) -> bool:
    """Whether the numeral may mean the quantity: in its base, or in base 10; also where the value is not known."""
    readings: list[Fraction | None] = [None]
    for base in (numeral.base, 10):
        with suppress(ValueError):
            readings.append(Fraction(int(numeral.digits, base)))
    return rational_value(quantity) in readings


def is_grouped_number(sequence: Sequence, quantity: Quantity) -> bool:
    """Whether the list `1, 200` may mean 1200: a number written with a comma and a space."""
    values = [rational_value(item) for item in sequence.items]
    groups = [value for value in values if value is not None and value.denominator == 1 and 0 <= value < 1000]
    if sequence.shape is not Shape.LIST or len(groups) < len(values):
        return False
    number = sum(group * 1000**place for place, group in enumerate(reversed(groups)))
    return rational_value(quantity) == number
