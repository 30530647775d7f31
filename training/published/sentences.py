"""Sentences of published solutions, as comments of steps and as names of variables. Pure.

A comment keeps the words of its sentence and the numbers of the problem. Expressions go, and so do results: what a step
computes, only its code says.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from fractions import Fraction

from training.published.numerals import numerals

_GAP = "\0"
"""Stands for a computation that was cut out."""
_MONEY_WORDS = frozenset(
    """
    allowance bill bonus budget change commission cost costs debt discount due earn earned earnings earns expenses fare
    fee fees income interest investment left loan lost made makes money paid pay payment payments pays price profit
    raise refund rent revenue salary sale sales save saved saves savings sold spend spends spent tax tip total value
    wage wages worth
    """.split()
)
"""Words that say what a sum of money is."""
_FILLERS = frozenset(
    """
    a additional all altogether an another away combined different each every exactly extra fewer full his her its just
    left less more my now of only other our remaining same some such the their these those total whole your
    """.split()
)
"""Words before or after a noun that do not name it."""
_ENDS = frozenset(
    """
    after and are as at ate away back became because become before being between but by can could did do does due during
    equal equals faster for from gets got had has have he higher how i if in into is it left longer lower need needed
    needs not off older on onto or out over per she since slower so taller than that then there they this times to
    together until up was we were when where which while who will with without would you younger
    """.split()
)
"""Words that end the noun behind a result."""
_SMALL = (
    _FILLERS
    | _ENDS
    | frozenset(
        """
        be been call comes equal equals find first finally get given hence leaves means next therefore thus time times
        """.split()
    )
)
_DANGLING = re.compile(
    r"(?:[\s,;:]|\b(?:[Ss]o|[Bb]ecause|[Ss]ince|[Tt]hat|that's|is|are|was|were|be|been|to|of|equals?|and|or|a|an|the|as|by|"
    r"at|which|means?|it's|gives?|get|would|will|comes|only|with|for|in|has|have|had|from|than)(?=\W*$))+\W*$"
)
"""Words at the end that led to a number."""
_LEADING = re.compile(
    r"^(?:\W+|(?:[Ss]tep \d+|\d+)[:.)]\s*|(?:[Ss]o|[Tt]hus|[Tt]herefore|[Hh]ence|[Tt]hen|[Aa]nd|[Bb]ecause)\b,?\s*)+"
)
_SIGNS = re.compile(rf"(?:\$(?!\s?\d)|[=×÷<>]|(?<=\s)[-+*/](?=\s)|\(\s*\)|{_GAP})")
_TRAILING_UNITS = re.compile(rf":\s*{_GAP}[^.,;]*$")
"""What remains of `now add the marbles: 3 + 4 = 7 marbles` behind the colon."""
_WORDS = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_TOTAL = re.compile(r"\b(?:total|altogether|combined|in all)\b")
_FEWEST_WORDS = 2


def comment_of(
    sentence: str,
    computations: Sequence[tuple[int, int]],
    *,
    results: Mapping[Fraction, str],
    stated: AbstractSet[Fraction],
) -> str | None:
    """The sentence without its computations, given by their places; None where too little is left to say anything.

    Of the other numbers, those in `stated` stay, and the results of steps go, or become the variable's words.
    """
    text = sentence
    for start, end in reversed(computations):
        text = f"{text[:start]} {_GAP} {text[end:]}"
    text = _without_results(_TRAILING_UNITS.sub(":", text), results, stated)
    text = " ".join(_SIGNS.sub(" ", text).split())
    text = re.sub(r"\s+([,.;:!?%)])", r"\1", text)
    text = _LEADING.sub("", text)
    text = _DANGLING.sub("", text).strip(" .,;:!?-")
    if len(_WORDS.findall(text)) < _FEWEST_WORDS:
        return None
    return text[0].upper() + text[1:]


def _without_results(text: str, results: Mapping[Fraction, str], stated: AbstractSet[Fraction]) -> str:
    for numeral in reversed(numerals(text)):
        if numeral.value in results and numeral.value not in stated:
            before, after = text[: numeral.start].rstrip("$ "), text[numeral.end :].removeprefix("%")
            text = f"{before} {'' if _beginsnoun_behind(after) else _spoken(results[numeral.value])} {after.lstrip()}"
    return text


def _beginsnoun_behind(text: str) -> bool:
    word = re.match(r"\s*([A-Za-z]+)", text)
    return word is not None and word[1].casefold() not in _ENDS


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def name_wishes(before: str, after: str, *, is_money: bool) -> Iterator[str]:
    """Names for what a sentence computes, best first: its noun or kind of money, then with other words before it."""
    noun = noun_behind(after)
    left, right = _content(before), _content(after)
    if noun is None or noun in ("dollar", "dollars"):
        money = next((word for word in reversed(left) if word in _MONEY_WORDS), None) if is_money or noun else None
        noun = money or noun or ("dollars" if is_money else next(reversed(left), "amount"))
    yield noun
    for word in (
        *(["total"] if _TOTAL.search(before + after) else []),
        *reversed(_proper(before)),
        *right,
        *reversed(left),
    ):
        if word not in noun.split("_"):
            yield f"{word}_{noun}"


def noun_behind(after: str) -> str | None:
    """What the text right behind a number counts: `blue_pencils` of ` blue pencils in each box`."""
    clause = re.split(r"[^A-Za-z\s'/-]", after.lstrip("% "), maxsplit=1)[0]
    words: list[str] = []
    for word in _WORDS.findall(clause.replace("/", " per "))[:5]:
        plain = word.casefold().removesuffix("'s")
        if plain in _FILLERS and not words:
            continue
        if plain in _ENDS or plain in _FILLERS or not plain.isalpha() or len(words) == 2:
            break
        words.append(plain)
    return "_".join(words) or ("percent" if after.startswith("%") else None)


def _content(text: str) -> list[str]:
    words = (word.casefold().removesuffix("'s") for word in _WORDS.findall(text))
    return [word for word in words if word not in _SMALL and word.isalpha() and len(word) > 2]


def _proper(text: str) -> list[str]:
    words = _WORDS.findall(text)
    names = [word.removesuffix("'s") for word in words if word[0].isupper()]
    return [name.casefold() for name in names if name.casefold() not in _SMALL and name.isalpha() and len(name) > 2]
