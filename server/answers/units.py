"""Units: reads the words behind a number as a scale and a unit. Unknown words of four letters or more are units too."""

import re
from fractions import Fraction
from typing import NamedTuple

from server.answers.scanner import Unreadable

UNITS: dict[str, str] = {
    **dict.fromkeys(("degree", "degrees", "deg"), "degree"),
    **dict.fromkeys(("dollar", "dollars", "usd"), "dollar"),
    **dict.fromkeys(("cent", "cents"), "cent"),
    **dict.fromkeys(("mm", "millimeter", "millimetre"), "mm"),
    **dict.fromkeys(("cm", "cms", "centimeter", "centimetre"), "cm"),
    **dict.fromkeys(("meter", "metre"), "m"),
    **dict.fromkeys(("km", "kms", "kilometer", "kilometre"), "km"),
    **dict.fromkeys(("in", "inch", "inches"), "inch"),
    **dict.fromkeys(("ft", "foot", "feet"), "foot"),
    **dict.fromkeys(("yd", "yds", "yard"), "yard"),
    **dict.fromkeys(("mi", "mile"), "mile"),
    **dict.fromkeys(("mg", "milligram"), "mg"),
    **dict.fromkeys(("kg", "kgs", "kilogram"), "kg"),
    **dict.fromkeys(("gram",), "g"),
    **dict.fromkeys(("lb", "lbs", "pound"), "pound"),
    **dict.fromkeys(("oz", "ounce"), "ounce"),
    **dict.fromkeys(("ml", "milliliter", "millilitre"), "ml"),
    **dict.fromkeys(("liter", "litre"), "l"),
    **dict.fromkeys(("sec", "secs", "second"), "s"),
    **dict.fromkeys(("min", "mins", "minute"), "minute"),
    **dict.fromkeys(("hr", "hrs", "hour"), "h"),
    **dict.fromkeys(("day", "days"), "day"),
    **dict.fromkeys(("mph",), "mile/h"),
    **dict.fromkeys(("kph", "kmh"), "km/h"),
    **dict.fromkeys(("rad", "radian"), "radian"),
    **dict.fromkeys(("am", "a.m"), "am"),
    **dict.fromkeys(("pm", "p.m"), "pm"),
    **dict.fromkeys(("sq", "square"), "square"),
    **dict.fromkeys(("cu", "cubic"), "cubic"),
}
"""Two and three letters behind a number are a product of letters unless they are here."""

_SCALES: dict[str, Fraction] = {
    **dict.fromkeys(("percent", "percentage"), Fraction(1, 100)),
    "dozen": Fraction(12),
    "hundred": Fraction(100),
    "thousand": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "trillion": Fraction(10**12),
}
_NO_UNITS = frozenset(
    "half halve third fourth fifth sixth seventh eighth ninth tenth hundredth thousandth quarter factorial base mod "
    "modulo plus minus times over divided squareroot root negative infinity remainder choose".split()
)
"""Words that change the value of the number before them."""
_POWERS = {"square": "2", "cubic": "3", "squared": "2", "cubed": "3", "2": "2", "3": "3"}


class Unit(NamedTuple):
    """What the words behind a number say."""

    scale: Fraction
    """What the number is to be multiplied by: a million, a hundredth."""
    name: str | None


def unit(written: str) -> Unit:
    """Reads the spellings of a unit, as in `square inches`, `in^2`, `km per hour`, `million dollars`."""
    written = re.sub(r"\bper\b", "/", written.lower())
    scale, power, names = Fraction(1), "", list[str]()
    for token in re.findall(r"[a-z]+(?:\.[a-z])?|[23/]", written):
        name = _single(token)
        if name in _NO_UNITS:
            raise Unreadable(f"{name} behind a number is no unit")
        if name in _SCALES:
            scale *= _SCALES[name]
        elif name in _POWERS:
            power = _POWERS[name]
        else:
            names.append(name)
    if power and not names:
        raise Unreadable("a power of no unit")
    return Unit(scale, (" ".join(names).replace(" / ", "/") + power) or None)


def _single(token: str) -> str:
    is_plural = token not in UNITS and len(token) > 3 and token.endswith("s")
    stem = token[:-1] if is_plural else token
    return UNITS.get(stem, stem)
