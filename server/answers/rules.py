"""Rules: compares two forms. Structure and exact numbers are decided here; an `Algebra` decides the rest.

The rules keep SAME an equivalence as far as answers allow. Where two answers agree only under an unsaid assumption
(which unit, which letter, whether order matters), the verdict is UNKNOWN. The order of the two forms never matters.
"""

from collections.abc import Callable
from functools import cache
from typing import Protocol, TypeVar

from search import Verdict
from server.answers.exact import (
    Uncomparable,
    exact,
    infinite_sign,
    is_clock_reading,
    is_factorisation,
    is_grouped_reading,
    is_numeral_reading,
    proportion_of,
)
from server.answers.terms import (
    Code,
    Colon,
    Expression,
    Form,
    Matrix,
    Member,
    Numeral,
    Quantity,
    Relation,
    Sequence,
    Shape,
    Symbol,
    Union,
    Words,
    letters_in,
    symbols,
)

_Item = TypeVar("_Item")

_LONGEST_PLAIN_WORDS = 6
"""Two different phrases up to this many words are different answers; longer ones are prose, which can say the same."""
_WORDS_THAT_NAME_MATHS = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million half third "
    "quarter none nothing no empty undefined infinite infinitely dne true false yes ℝ ℤ ℕ ∅ real integers natural "
    "all".split()
)
_NAMED_SETS = frozenset("ℝℤℕ∅")
_UNORDERED = (Shape.LIST, Shape.SET)
_THE_UNKNOWN = "x"
"""`x = 3` is the same answer as `3`. One letter can have this right and no more, or x = 3 would equal y = 3 as well."""
_RANK: tuple[type[Form], ...] = (Relation, Member, Words, Code, Numeral, Colon, Matrix, Union, Sequence, Quantity)
"""Two forms of different kinds are compared in this order, which halves the pairs to write rules for."""


class Algebra(Protocol):
    """Decides what takes more than exact arithmetic."""

    def same(self, a: Expression, b: Expression) -> Verdict:
        """Whether two scalars are equal for all values of their letters."""
        ...

    def same_relation(self, a: tuple[Expression, Expression], b: tuple[Expression, Expression], sign: str) -> Verdict:
        """Whether `a[0] sign a[1]` and `b[0] sign b[1]` say the same; the sign is one of = ≠ < ≤."""
        ...

    def same_region(self, a: tuple[Sequence, ...], b: tuple[Sequence, ...]) -> Verdict:
        """Whether two unions of intervals and finite sets hold the same real numbers."""
        ...


class NeedsAlgebra(Exception):
    """Exact arithmetic does not decide this comparison."""


class Comparison:
    """Compares forms; without an algebra it raises `NeedsAlgebra` where it would need one."""

    def __init__(self, algebra: Algebra | None) -> None:
        self._given_algebra = algebra
        self._exact = cache(exact)  # an item of a list is compared with many

    @property
    def _algebra(self) -> Algebra:
        if self._given_algebra is None:
            raise NeedsAlgebra
        return self._given_algebra

    def forms(self, a: Form, b: Form) -> Verdict:  # noqa: PLR0912 - one case for each kind of form
        """Whether two forms are the same answer."""
        if a == b:
            return Verdict.SAME
        match a, b:
            case (Quantity(_, str(unit)), Quantity(_, str(other))) | (Colon(_, str(unit)), Colon(_, str(other))) if (
                unit != other
            ):
                return Verdict.UNKNOWN
            case Quantity() as a, Quantity() as b:
                return self._quantities(a, b)
            case Words() as a, Words() as b:
                return _words(a, b)
            case Numeral() as a, Numeral() as b:
                return Verdict.DIFFERENT if a.base == b.base else Verdict.UNKNOWN
            case Colon() as a, Colon() as b:
                return self._colons(a, b)
            case Matrix() as a, Matrix() as b:
                return _all(a.rows, b.rows, lambda row_a, row_b: _all(row_a, row_b, self._expressions))
            case Sequence() as a, Sequence() as b:
                return self._sequences(a, b)
            case (Sequence() | Union()) as a, (Sequence() | Union()) as b:
                return self._unions(a, b)
            case Relation() as a, Relation() as b:
                return self._relations(a, b)
            case Member() as a, Member() as b:
                inner = self.forms(a.container, b.container)
                return inner if a.letter == b.letter else _never_same(inner, Verdict.DIFFERENT)
            case _:
                return self._unlike(*sorted((a, b), key=lambda form: _RANK.index(type(form))))

    def _unlike(self, a: Form, b: Form) -> Verdict:  # noqa: PLR0912 - one case for each pair of kinds
        """Two forms of different kinds, ordered as in `_RANK`."""
        match a, b:
            case (Relation() | Member()) as a, _:
                letter, value = _solved_for(a) or (None, None)
                verdict = self.forms(value, b) if value else Verdict.UNKNOWN
                return verdict if letter == _THE_UNKNOWN else _never_same(verdict)
            case Words() as a, _:
                is_doubtful = not _WORDS_THAT_NAME_MATHS.isdisjoint(a.text.split()) or _is_product(a, b)
                return Verdict.UNKNOWN if is_doubtful else Verdict.DIFFERENT
            case Code(), _:
                return Verdict.UNKNOWN if letters_in(b) or isinstance(b, Numeral) else Verdict.DIFFERENT
            case Numeral() as a, Quantity() as b:
                return Verdict.UNKNOWN if is_numeral_reading(a, b) else Verdict.DIFFERENT
            case Colon() as a, Quantity() as b:
                return Verdict.UNKNOWN if is_clock_reading(a, b) else Verdict.DIFFERENT
            case Sequence(_, (item,)), Quantity() as b:
                return _never_same(self.forms(item, b))
            case Sequence() as a, Quantity() as b:
                return Verdict.UNKNOWN if is_grouped_reading(a, b) else Verdict.DIFFERENT
            case Matrix(rows), Sequence() as b:
                entries = tuple(Quantity(entry) for row in rows for entry in row)
                is_vector = 1 in (len(rows), len(rows[0]))
                return _never_same(_all(entries, b.items, self.forms)) if is_vector else Verdict.DIFFERENT
            case _:
                return Verdict.DIFFERENT

    def _expressions(self, a: Expression, b: Expression) -> Verdict:
        if a == b:
            return Verdict.SAME
        if infinite_sign(a) or infinite_sign(b):
            return Verdict.SAME if infinite_sign(a) == infinite_sign(b) else Verdict.DIFFERENT
        try:
            value_a, value_b = self._exact(a), self._exact(b)
        except Uncomparable:
            return Verdict.UNKNOWN
        if value_a is None or value_b is None:
            is_plain_a, is_plain_b = value_a or isinstance(a, Symbol), value_b or isinstance(b, Symbol)
            return Verdict.DIFFERENT if is_plain_a and is_plain_b else self._algebra.same(a, b)
        if value_a != value_b:
            return Verdict.DIFFERENT
        return Verdict.SAME if is_factorisation(a) == is_factorisation(b) else Verdict.UNKNOWN

    def _quantities(self, a: Quantity, b: Quantity) -> Verdict:
        verdict = self._expressions(a.expression, b.expression)
        bare = a if b.unit else b
        # `5m` may be the five metres that the other side writes with \text{m}.
        may_hide_unit = (a.unit is None) != (b.unit is None) and bool(symbols(bare.expression))
        return Verdict.UNKNOWN if may_hide_unit and verdict is Verdict.DIFFERENT else verdict

    def _colons(self, a: Colon, b: Colon) -> Verdict:
        verdict = _all(a.parts, b.parts, self._expressions)
        proportion = proportion_of(a.parts)
        # 5:7 and 10:14 are one ratio, but two times of day.
        is_one_ratio = proportion is not None and proportion == proportion_of(b.parts)
        return Verdict.UNKNOWN if is_one_ratio and verdict is Verdict.DIFFERENT else verdict

    def _sequences(self, a: Sequence, b: Sequence) -> Verdict:
        unordered_a, unordered_b = a.shape in _UNORDERED, b.shape in _UNORDERED
        if unordered_a and unordered_b:
            return self._multisets(self._members(a), self._members(b))
        if Shape.SET in (a.shape, b.shape):
            return Verdict.DIFFERENT
        if unordered_a or unordered_b:
            return _never_same(self._multisets(a.items, b.items))
        verdict = _all(a.items, b.items, self.forms)
        if a.shape is b.shape:
            return verdict
        return _never_same(verdict) if Shape.ANGLE in (a.shape, b.shape) else Verdict.DIFFERENT

    def _members(self, sequence: Sequence) -> tuple[Form, ...]:
        """Items, without the repetitions that mean nothing in a set."""
        members: list[Form] = []
        for item in sequence.items:
            if sequence.shape is not Shape.SET or all(self.forms(item, other) is not Verdict.SAME for other in members):
                members.append(item)
        return tuple(members)

    def _multisets(self, a: tuple[Form, ...], b: tuple[Form, ...]) -> Verdict:
        """Greedy matching suffices, because SAME is an equivalence."""
        unmatched, doubtful = list(b), False
        for item in a:
            verdicts = [self.forms(item, candidate) for candidate in unmatched]
            if Verdict.SAME in verdicts:
                unmatched.pop(verdicts.index(Verdict.SAME))
            elif Verdict.UNKNOWN in verdicts:
                doubtful = True
            else:
                return Verdict.DIFFERENT
        if doubtful:
            return Verdict.UNKNOWN
        return Verdict.DIFFERENT if unmatched else Verdict.SAME

    def _unions(self, a: Sequence | Union, b: Sequence | Union) -> Verdict:
        regions_a, regions_b = (side.items if isinstance(side, Union) else (side,) for side in (a, b))
        if self._multisets(regions_a, regions_b) is Verdict.SAME:
            return Verdict.SAME
        return self._algebra.same_region(regions_a, regions_b)

    def _relations(self, a: Relation, b: Relation) -> Verdict:
        if a.operators != b.operators:
            return Verdict.UNKNOWN
        solved_a, solved_b = _solved_for(a), _solved_for(b)
        if solved_a and solved_b:
            if solved_a[0] == solved_b[0]:
                return self.forms(solved_a[1], solved_b[1])
            if not letters_in(solved_a[1]) and not letters_in(solved_b[1]):
                return Verdict.DIFFERENT
        if _all(a.sides, b.sides, self.forms) is Verdict.SAME:
            return Verdict.SAME
        match a.sides + b.sides:
            case (Quantity(left_a, None), Quantity(right_a, None), Quantity(left_b, None), Quantity(right_b, None)):
                return self._algebra.same_relation((left_a, right_a), (left_b, right_b), a.operators[0])
            case _:
                return Verdict.UNKNOWN


def _solved_for(form: Relation | Member) -> tuple[str, Form] | None:
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


def _words(a: Words, b: Words) -> Verdict:
    longest = max(len(a.text.split()), len(b.text.split()))
    names_set = not _NAMED_SETS.isdisjoint((a.text, b.text))  # `no solution` and ∅ may mean one thing
    if longest > _LONGEST_PLAIN_WORDS or names_set:
        return Verdict.UNKNOWN
    # Two or three letters may be a product, and then their order means nothing.
    is_product = longest == 1 and len(a.text) <= 3 and sorted(a.text) == sorted(b.text)
    return Verdict.UNKNOWN if is_product else Verdict.DIFFERENT


def _is_product(words: Words, form: Form) -> bool:
    """Whether a short run of letters may be a product of just the letters in `form`."""
    letters = {letter.lower() for letter in letters_in(form)}
    return len(words.text) <= 3 and bool(letters) and letters == set(words.text)


def _all(a: tuple[_Item, ...], b: tuple[_Item, ...], compare: Callable[[_Item, _Item], Verdict]) -> Verdict:
    """SAME where all pairs are; one pair that differs makes the whole differ."""
    if len(a) != len(b):
        return Verdict.DIFFERENT
    found = {compare(item_a, item_b) for item_a, item_b in zip(a, b, strict=True)}
    return next((verdict for verdict in (Verdict.DIFFERENT, Verdict.UNKNOWN) if verdict in found), Verdict.SAME)


def _never_same(verdict: Verdict, instead: Verdict = Verdict.UNKNOWN) -> Verdict:
    return instead if verdict is Verdict.SAME else verdict
