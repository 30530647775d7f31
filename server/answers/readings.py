"""Readings: what else a form could be taken for. `verdicts` asks before it calls two kinds of form different."""

from fractions import Fraction

from server.answers.exact import Uncomparable, exact
from server.answers.expressions import Expression, Symbol, symbols
from server.answers.forms import Colon, Form, Numeral, Quantity, Relation, Sequence, Shape, Union

_SECONDS = {"s": 1, "minute": 60, "h": 3600, "day": 86_400}


def solved_for(relation: Relation) -> tuple[str, Form] | None:
    """Letter and value of `letter = value` or `value = letter`."""
    if relation.operators != ("=",):
        return None
    for side, other in (relation.sides, relation.sides[::-1]):
        match side:
            case Quantity(Symbol(letter), None) if letter not in letters_in(other):
                return letter, other
            case _:
                pass
    return None


def letters_in(form: Form) -> frozenset[str]:
    """The letters of the expressions inside."""
    match form:
        case Quantity(expression):
            return symbols(expression)
        case Sequence(_, items) | Union(items):
            return frozenset(letter for item in items for letter in letters_in(item))
        case _:
            return frozenset()


def bare_sides(relation: Relation) -> tuple[Expression, Expression] | None:
    """Left and right of a relation between two scalars without units."""
    match relation.sides:
        case (Quantity(left, None), Quantity(right, None)):
            return left, right
        case _:
            return None


def rational_value(form: Form) -> Fraction | None:
    """The rational value of a scalar."""
    if not isinstance(form, Quantity):
        return None
    try:
        value = exact(form.expression)
    except Uncomparable:
        return None
    return value.re if value is not None and value.im == 0 else None


def proportion_of(parts: tuple[Expression, ...]) -> Fraction | None:
    """a/b of a:b."""
    values = [rational_value(Quantity(part)) for part in parts]
    if len(values) != 2 or values[0] is None or not values[1]:
        return None
    return values[0] / values[1]


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


def numeral_readings(numeral: Numeral) -> tuple[Fraction | None, ...]:
    """The value in its base, and that of its digits in base 10; None stands for an unreadable one."""
    readings: list[Fraction | None] = [None]
    for base in (numeral.base, 10):
        try:
            readings.append(Fraction(int(numeral.digits, base)))
        except ValueError:
            readings.append(None)
    return tuple(readings)


def as_digit_groups(sequence: Sequence) -> Fraction | None:
    """1200 for the list `1, 200`: a number written with a comma and a space."""
    values = [rational_value(item) for item in sequence.items]
    if sequence.shape is not Shape.LIST or any(value is None or value.denominator != 1 for value in values):
        return None
    digits = "".join(str(value) if place == 0 else str(value).zfill(3) for place, value in enumerate(values))
    return Fraction(digits) if all(value is not None and 0 <= value < 1000 for value in values) else None
