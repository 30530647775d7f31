"""Comparison: decides whether two answers, as written, are equal. The other modules here serve this one.

`compare` decides everything and may take seconds, or on a hostile answer forever: run it in a worker.
`decide_exactly` decides what needs no algebra, in bounded time, without importing sympy, and gives None for the rest.

SAME       the texts have one spelling, or what they say is equal.
DIFFERENT  both are readable and were found to differ.
UNKNOWN    one is unreadable, too long or too large to compute, or they agree only under an unsaid assumption.
"""

import re

from search import Verdict
from server.answers.grammar import read
from server.answers.rules import Algebra, Comparison, NeedsAlgebra
from server.answers.scanner import Unreadable
from server.answers.spelling import respelled

_INTEGER = re.compile(r"[+-]?[0-9]{1,1000}")
_HEXADECIMAL = re.compile(r"(?!\d+$)(?!\d+[eE]\d+$)[0-9][0-9a-fA-F]*")


def compare(a: str, b: str) -> Verdict:
    """The verdict on two answers. Needs a process of its own: no bound on time or memory."""
    # sympy takes a second to import and stays out of the server process.
    from server.answers.algebra import SympyAlgebra  # noqa: PLC0415

    return decide_exactly(a, b) or _compare(a, b, SympyAlgebra())


def decide_exactly(a: str, b: str) -> Verdict | None:
    """The verdict where it takes no algebra, else None. Bounded: a few milliseconds for the longest answers read."""
    try:
        return _compare(a, b, None)
    except NeedsAlgebra:
        return None


def _compare(a: str, b: str, algebra: Algebra | None) -> Verdict:
    a, b = sorted((a.strip(), b.strip()))  # so that the order cannot matter below
    if a == b:
        return Verdict.SAME
    if _INTEGER.fullmatch(a) and _INTEGER.fullmatch(b):
        return Verdict.SAME if int(a) == int(b) else Verdict.DIFFERENT
    spelling_a, spelling_b = respelled(a), respelled(b)
    if not spelling_a or not spelling_b:
        return Verdict.UNKNOWN
    if spelling_a == spelling_b:
        return Verdict.SAME
    try:
        verdict = Comparison(algebra).forms(read(spelling_a), read(spelling_b))
    except Unreadable:
        return Verdict.UNKNOWN
    return Verdict.UNKNOWN if _reads_as_numerals(spelling_a, spelling_b, verdict) else verdict


def _reads_as_numerals(a: str, b: str, verdict: Verdict) -> bool:
    """Whether the texts, read as base-16 numerals, give another verdict than as products: 2ab and 2ba, 3f and 3F."""
    if not (_HEXADECIMAL.fullmatch(a) and _HEXADECIMAL.fullmatch(b)):
        return False
    return (a.lower() == b.lower()) != (verdict is Verdict.SAME)
