"""Grammar: reads a whole answer, from a number with its unit to a list of equations or a union of intervals.

    answer = entry {("," | ";" | "and" | "or") entry}
    entry  = words | code | numeral with base | side {("=" | "≠" | "<" | "≤" | ">" | "≥" | "∈") side}
    side   = matrix | named set | sequence {"∪" sequence} | [currency] scalar {":" scalar} [unit]

An entry with one ± stands for two.
"""

import re
from collections.abc import Callable

from server.answers.scalars import CONNECTIVES, CONSTANTS, FUNCTIONS, ScalarGrammar
from server.answers.scanner import MAX_DEPTH, Unreadable
from server.answers.terms import (
    Code,
    Colon,
    Constant,
    Form,
    Matrix,
    Member,
    Number,
    Numeral,
    Operation,
    Quantity,
    Relation,
    Sequence,
    Shape,
    Symbol,
    Union,
    Words,
    negated,
    symbols,
)
from server.answers.units import UNITS, Unit, unit

MAX_ITEMS = 64
"""Commas in one answer. Unordered lists are matched pair by pair, in the server's own process."""

_NAMED_SETS = {"\\mathbb{R}": "ℝ", "\\mathbb{Z}": "ℤ", "\\mathbb{N}": "ℕ", "\\emptyset": "∅", "\\varnothing": "∅"}
_SHAPES = {
    "()": Shape.OPEN,
    "[]": Shape.CLOSED,
    "(]": Shape.HALF_OPEN_LEFT,
    "[)": Shape.HALF_OPEN_RIGHT,
    **dict.fromkeys(("{}", "⦃⦄", "{⦄", "⦃}"), Shape.SET),
    **dict.fromkeys(("⟨⟩", "⟨)", "⟨]"), Shape.ANGLE),
}
_TURNED = {">": "<", "≥": "≤"}
_COORDINATES = [tuple(Quantity(Symbol(letter)) for letter in letters) for letters in ("xy", "xyz")]

_END = r"(?=\s*(?:[,;]|$))"
_SEPARATOR = re.compile(
    r"[,;]\s*(?:(?:and|or)\b|\\text\s*\{\s*(?:and|or)\s*\})?|(?:and|or)\b|\\text\s*\{[\s,]*(?:and|or)\s*\}"
)
_COMMA = re.compile(r"[,;]")
_WORD = r"[A-Za-z]+(?:['-][A-Za-z]+)*"
_WORDS = re.compile(rf"({_WORD}(?:\s+{_WORD})*)")
_WORDS_TO_CONNECTIVE = re.compile(rf"({_WORD}(?:\s+(?!(?:and|or)\b){_WORD})*)")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_NAMED_SET = re.compile("(?:" + "|".join(map(re.escape, _NAMED_SETS)) + ")" + _END)
_CODE = re.compile(r"(?=\w*[A-Za-z]\d)(?!\d+[eE]\d+\b)[0-9A-Za-z]+" + _END)
_NUMERAL = re.compile(r"(\d[0-9A-Za-z]*)_(?:\{(\d{1,2})\}|(\d{1,2}))" + _END)
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix)\}(.*?)\\end\{\1\}", re.DOTALL)
_UNIT_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}\s*(?:\^\s*\{?\s*([23])\s*\}?)?")
_UNIT_WORDS = re.compile(r"[A-Za-z]{2,}(?:(?:\s+|\s*/\s*)[A-Za-z]+)*(?:\s*\^\s*\{?\s*([23])\s*\}?)?")
_CONNECTIVE = re.compile(r"\s+(?:and|or)\b")
_MONEY = re.compile(r"(-?)\s*¤")
_UNION = re.compile(r"∪|U(?=\s*[(\[])")


def read(spelling: str) -> Form:
    """The form of a respelled answer; raises `Unreadable`."""
    grammar = _AnswerGrammar(spelling)
    form = grammar.answer()
    if grammar.peek():
        raise Unreadable(f"text left over from character {grammar.position}")
    return form


class _AnswerGrammar(ScalarGrammar):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sequence_starts = _sequence_starts(text)

    def answer(self) -> Form:
        items = self._listed(self._entry, _SEPARATOR)
        return items[0] if len(items) == 1 else Sequence(Shape.LIST, tuple(items))

    def _listed(self, read_one: Callable[[], Form], separator: re.Pattern[str]) -> list[Form]:
        """Items between separators; one with a ± counts as two."""
        items = self._alternatives(read_one)
        while self.take(separator):
            items += self._alternatives(read_one)
        return items

    def _alternatives(self, read_one: Callable[[], Form]) -> list[Form]:
        """Reads once, or once per sign where the text holds a ±."""
        start, read_outside, self.either_signs_read = self.position, self.either_signs_read, 0
        alternatives = [read_one()]
        if self.either_signs_read > 1:
            raise Unreadable("several ± may or may not go together")
        if self.either_signs_read:
            self.position, self.either_sign = start, -1
            alternatives.append(read_one())
        self.either_sign, self.either_signs_read = 1, read_outside
        return alternatives

    def _entry(self) -> Form:
        words = self._words(_TEXT, _are_marked_words, self._is_at_end) or self._words(
            _WORDS_TO_CONNECTIVE, _are_bare_words, self._is_at_end
        )
        if words:
            return words
        if code := self.take(_CODE):
            return Code(code[0].lower())
        if numeral := self.take(_NUMERAL):
            return Numeral(numeral[1].lower(), int(numeral[2] or numeral[3]))
        sides, operators = [self._side()], list[str]()
        while operator := self.take_any("=≠<≤>≥∈"):
            operators.append(operator)
            sides.append(self._side())
        return _relation(sides, operators) if operators else sides[0]

    def _words(
        self, pattern: re.Pattern[str], are_words: Callable[[str], bool], is_at_end: Callable[[], bool]
    ) -> Words | None:
        """The words in the pattern's group, where the entry or item ends behind them; else reads nothing."""
        start, words = self.position, self.take(pattern)
        if words and are_words(words[1].strip()) and is_at_end():
            return Words(" ".join(words[1].lower().split()))
        self.position = start
        return None

    def _is_at_end(self) -> bool:
        return not self.peek() or self.at(_SEPARATOR) is not None

    def _is_at_item_end(self) -> bool:
        return self.peek() in (",", ")", "]", "}", "⦄", "⟩")

    def _side(self) -> Form:
        with self.nested():
            if matrix := self.take(_MATRIX):
                return _matrix(matrix[2])
            if named := self.take(_NAMED_SET):
                return Words(_NAMED_SETS[named[0]])
            if self._starts_sequence():
                return self._sequences()
            return self._quantity()

    def _starts_sequence(self) -> bool:
        return self.peek() != "" and self.position in self._sequence_starts

    def _sequences(self) -> Sequence | Union:
        items = [self._sequence()]
        while self.take(_UNION):
            if not self._starts_sequence():
                raise Unreadable("a union with something else than intervals and sets")
            items.append(self._sequence())
        return items[0] if len(items) == 1 else Union(tuple(items))

    def _sequence(self) -> Sequence:
        opening = self.expect("([{⦃⟨")
        commas_grouped, self.commas_group = self.commas_group, False
        items: list[Form] = []
        if opening not in "{⦃":
            items = [self._item()]
            while self.take_any(",;"):
                items.append(self._item())
        elif self.peek() != "⦄":
            items = self._listed(self._item, _COMMA)
        shape = _SHAPES.get(opening + self.expect(")]}⦄⟩"))
        self.commas_group = commas_grouped
        if shape is None:
            raise Unreadable("brackets that do not belong together")
        return Sequence(shape, tuple(items))

    def _item(self) -> Form:
        return self._words(_WORDS, _are_bare_words, self._is_at_item_end) or self._side()

    def _quantity(self) -> Quantity | Colon:
        money = self.take(_MONEY)
        parts = [negated(self.expression()) if money and money[1] else self.expression()]
        while self.take_any(":"):
            parts.append(self.expression())
        scale, name = self._unit()
        if money:
            if name not in (None, "dollar"):
                raise Unreadable("money with a unit")
            name = "dollar"
        if scale != 1:
            parts = [Operation("product", (Number(scale), part)) for part in parts]
        return Quantity(parts[0], name) if len(parts) == 1 else Colon(tuple(parts), name)

    def _unit(self) -> Unit:
        if self.take_any("°"):
            return unit(f"degree {self.take_any('CFK')}")
        if self.take_any("¤"):
            return unit("dollar")
        if self.at(_SEPARATOR):
            return unit("")
        if text := self.take(_UNIT_TEXT):
            if not re.fullmatch(r"[A-Za-z0-9 ./^²³-]*", text[1]):
                raise Unreadable("a unit with unknown characters")
            return unit(f"{text[1]} {text[2] or ''}")
        words = self.at(_UNIT_WORDS)
        written = _CONNECTIVE.split(words[0])[0] if words else ""
        first = re.split(r"[\s/^]", written)[0].lower()
        if first not in UNITS and len(first) <= 3:
            return unit("")
        self.position += len(written)
        return unit(written)


def _are_marked_words(text: str) -> bool:
    r"""Whether the content of \text{} is words: not a letter, not a number with its unit."""
    return _WORDS.fullmatch(text) is not None and len(text) > 1 and text not in CONNECTIVES


def _are_bare_words(text: str) -> bool:
    """Letters that can be no expression: not x, not sin x, not pi; a single short run counts, as in `no`."""
    runs = re.findall(r"[A-Za-z]+", text)
    if any(run in FUNCTIONS or (run in CONSTANTS and len(run) > 1) for run in runs):
        return False
    return any(len(run) > 3 for run in runs) or (len(runs) == 1 and len(runs[0]) > 1)


def _sequence_starts(text: str) -> frozenset[int]:
    """Where the brackets open that hold a comma of their own: sequences, not mere grouping."""
    opened: list[int] = []
    starts: set[int] = set()
    for position, character in enumerate(text):
        if character in "([{⦃⟨":
            opened.append(position)
        elif character in ")]}⦄⟩" and opened:
            opened.pop()
        if len(opened) > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        if character in "⟨⦃,;" and opened:
            starts.add(opened[-1])
    if sum(map(text.count, ",;")) > MAX_ITEMS:
        raise Unreadable("too many items")
    return frozenset(starts)


def _matrix(body: str) -> Matrix:
    rows = [[ScalarGrammar(cell) for cell in row.split("&")] for row in body.strip().removesuffix("⏎").split("⏎")]
    matrix = Matrix(tuple(tuple(cell.expression() for cell in row) for row in rows))
    if any(cell.peek() for row in rows for cell in row) or len({len(row) for row in rows}) != 1:
        raise Unreadable("a matrix with an unreadable entry or uneven rows")
    return matrix


def _relation(sides: list[Form], operators: list[str]) -> Form:
    match operators, sides:
        case ["∈"], [Quantity(Symbol(letter), None), container]:
            return Member(letter, container)
        case ["="], [Sequence(Shape.OPEN, items), right] if items in _COORDINATES:
            return right  # (x, y) = … says no more than its right side; other letters could stand for anything
        case _:
            pass
    if all(operator in _TURNED for operator in operators):
        sides, operators = sides[::-1], [_TURNED[operator] for operator in reversed(operators)]
    if operators not in (["="], ["≠"]) and not all(operator in "<≤" for operator in operators):
        raise Unreadable("a chain of unlike relations, or membership of something else than a letter")
    return _as_interval(sides, operators) or Relation(tuple(sides), tuple(operators))


def _as_interval(sides: list[Form], operators: list[str]) -> Member | None:
    """a < x ≤ b and x ≤ b as membership of an interval."""
    match sides, operators:
        case [Quantity(Symbol(), None), _], ["<" | "≤"]:
            return _as_interval([Quantity(negated(Constant.INFINITY)), *sides], ["<", *operators])
        case [_, Quantity(Symbol(), None)], ["<" | "≤"]:
            return _as_interval([*sides, Quantity(Constant.INFINITY)], [*operators, "<"])
        case [Quantity(low, None), Quantity(Symbol(letter), None), Quantity(high, None)], [left, right]:
            brackets = ("(" if left == "<" else "[") + (")" if right == "<" else "]")
            interval = Sequence(_SHAPES[brackets], (sides[0], sides[2]))
            return None if symbols(low) | symbols(high) else Member(letter, interval)
        case _:
            return None
