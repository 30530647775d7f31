"""Numerals: the numbers that a problem states, in digits and in words. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
"""A number in digits, with or without commas."""
_DIGITS = re.compile(rf"(?<![\d.])(?:{NUMBER})")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)?")

_COUNTS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
_TENS = "thirty forty fifty sixty seventy eighty ninety".split()
SPELT: dict[str, tuple[Fraction, ...]] = {
    **{word: (Fraction(value),) for value, word in enumerate(_COUNTS)},
    **{word: (Fraction(10 * tens),) for tens, word in enumerate(_TENS, start=3)},
    **{
        f"{word}-{_COUNTS[ones]}": (Fraction(10 * tens + ones),)
        for tens, word in enumerate(["twenty", *_TENS], start=2)
        for ones in range(1, 10)
    },
    "hundred": (Fraction(100),),
    "thousand": (Fraction(1000),),
    "million": (Fraction(1_000_000),),
    **dict.fromkeys(("once", "single"), (Fraction(1),)),
    **dict.fromkeys(("twice", "double", "doubled", "doubles", "pair", "pairs", "couple", "both"), (Fraction(2),)),
    **dict.fromkeys(("half", "halves", "halfway"), (Fraction(2), Fraction(1, 2))),
    **dict.fromkeys(("thrice", "triple", "tripled", "triples"), (Fraction(3),)),
    **dict.fromkeys(("third", "thirds"), (Fraction(3), Fraction(1, 3), Fraction(2, 3))),
    **dict.fromkeys(
        ("quarter", "quarters", "fourth", "fourths"), (Fraction(4), Fraction(1, 4), Fraction(3, 4), Fraction(25))
    ),
    **dict.fromkeys(("fifth", "fifths"), (Fraction(5), *(Fraction(part, 5) for part in range(1, 5)))),
    **dict.fromkeys(("sixth", "sixths"), (Fraction(6),)),
    **dict.fromkeys(("eighth", "eighths"), (Fraction(8),)),
    **dict.fromkeys(("tenth", "tenths"), (Fraction(10), *(Fraction(part, 10) for part in range(1, 10)))),
    **dict.fromkeys(("dozen", "dozens"), (Fraction(12),)),
}
"""What a word says: a fraction gives its denominator too, a quarter also its cents."""


CONVENTIONS = frozenset(
    map(
        Fraction,
        (
            *(*range(13), 14, 16, 20, 24, 25, 28, 30, 31, 32, 36, 52, 60, 90, 100, 128, 144, 180, 360, 365, 1000, 2000),
            *(5280, "0.01", "0.05", "0.1", "0.25", "0.5", "0.75", "1.5"),
        ),
    )
)
"""Numbers that need no working out: small ones, which count what a problem lists, coins, and parts of common units."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numeral:
    """A number that a text states in digits, and where."""

    value: Fraction
    start: int
    end: int


def number(text: str) -> Fraction:
    """The value of a number in digits."""
    return Fraction(text.replace(",", ""))


def numerals(text: str) -> list[Numeral]:
    """The numbers in digits, in their order."""
    return [Numeral(value=number(found[0]), start=found.start(), end=found.end()) for found in _DIGITS.finditer(text)]


def spelt(text: str) -> frozenset[Fraction]:
    """The numbers that words of the text say or imply."""
    return frozenset(value for words in _WORD.findall(text.casefold()) for value in _said(words))


def known(text: str) -> frozenset[Fraction]:
    """All numbers of the text."""
    return spelt(text) | {numeral.value for numeral in numerals(text)}


def _said(words: str) -> Iterator[Fraction]:
    """forty-five is one number; two-thirds and five-dollar are read word by word."""
    if words in SPELT:
        yield from SPELT[words]
    else:
        for word in words.split("-"):
            yield from SPELT.get(word, ())
