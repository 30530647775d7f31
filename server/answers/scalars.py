"""Scalars: reads one expression by recursive descent. This file holds the whole grammar of scalars.

    expression = ["+" | "-" | "±"] term {("+" | "-" | "±") term}
    term       = factor {["*" | "/"] factor}             no sign between two factors means a product
    factor     = primary {"^" exponent | "!" | "%"}
    primary    = number | letter | constant | function | fraction | root | bracketed expression | |expression|

Text with two common readings is refused: 1/2x, two numbers side by side, 2\\frac{3}{2}.
"""

import re
from fractions import Fraction
from typing import get_args

from server.answers.scanner import Scanner, Unreadable
from server.answers.terms import Constant, Expression, Function, Number, Operation, Operator, Symbol, negated
from server.answers.units import UNITS

MAX_OPERATORS_IN_A_ROW = 5
"""Of a/b/c and 5!!: each makes the tree one level deeper."""
MAX_DECIMAL_EXPONENT = 400
"""Of 1.92e-24: what floats can hold, and a bound on the digits of the exact value."""

FUNCTIONS: dict[str, Function] = {
    **{function: function for function in get_args(Function)},
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}
CONSTANTS: dict[str, Constant] = {
    "pi": Constant.PI,
    "e": Constant.E,
    "i": Constant.I,
    "oo": Constant.INFINITY,
    "inf": Constant.INFINITY,
    "infinity": Constant.INFINITY,
}
CONNECTIVES = ("and", "or")
_GREEK = frozenset(
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell".split()
)
_COMMANDS = frozenset({"frac", "sqrt", "binom", *FUNCTIONS, *_GREEK})

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE]([+-]?\d+)(?![\w.]))?")
_GROUPED_NUMBER = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?!\d)(?:\.\d+)?")
_MIXED_NUMBER = re.compile(r"(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])")
_DIGIT = re.compile(r"\d")
_LETTERS = re.compile(r"[A-Za-z]+")
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_TEXT = re.compile(r"\\text\s*\{\s*([A-Za-z]+)\s*\}")
_SUBSCRIPT = re.compile(r"_(?:\{([A-Za-z0-9]{1,8})\}|([A-Za-z0-9]))")
_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|"}


class ScalarGrammar(Scanner):
    """Reads scalars from a respelled text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.commas_group = True
        """Whether 1,000 is a number here; inside a tuple it is two."""
        self.either_sign = 1
        """What ± stands for in this reading."""
        self.either_signs_read = 0

    def expression(self) -> Expression:
        """A sum."""
        with self.nested():
            terms = [self._signed_term(self.take_any("+-±"))]
            while sign := self.take_any("+-±"):
                terms.append(self._signed_term(sign))
            return _joined("sum", terms)

    def _signed_term(self, sign: str) -> Expression:
        is_negative = sign == "-"
        if sign == "±":
            self.either_signs_read += 1
            is_negative = self.either_sign < 0
        while sign := self.take_any("+-"):
            is_negative ^= sign == "-"
        term = self._term()
        return negated(term) if is_negative else term

    def _term(self) -> Expression:
        factors: list[Expression] = [self._factor()]
        is_written, divisions = True, 0
        while True:
            if operator := self.take_any("*/"):
                factors.append(negated(self._factor()) if self.take_any("-") else self._factor())
                if operator == "/":
                    if divisions > MAX_OPERATORS_IN_A_ROW:
                        raise Unreadable("too many divisions in a row")
                    *above, bottom = factors
                    factors = [Operation("quotient", (_product(above, is_written=is_written), bottom))]
                    is_written, divisions = True, divisions + 1
            elif self._starts_factor():
                if divisions:
                    raise Unreadable("a division followed by a product without a sign reads in two ways")
                factors.append(self._factor())
                is_written = False
            else:
                return _product(factors, is_written=is_written)

    def _starts_factor(self) -> bool:
        """Whether a factor follows without a sign. A number or a bar never does: both would read in two ways."""
        if self.at(_LETTERS):
            return self._letter_run() != ""
        if self.peek() in ("(", "[", "{", "π"):
            return True
        text, command = self.at(_TEXT), self.at(_COMMAND)
        return text[1] in ("e", "i") if text else command is not None and command[1] in _COMMANDS

    def _letter_run(self) -> str:
        """The part of the coming letters that is one token of an expression; empty if they are a word or a unit."""
        letters = self.at(_LETTERS)
        run = letters[0] if letters else ""
        if run in FUNCTIONS or run in CONSTANTS or run == "sqrt":
            return run
        is_word = len(run) > 3 or run.lower() in UNITS or run.lower() in CONNECTIVES
        return "" if is_word and len(run) > 1 else run[:1]

    def _factor(self) -> Expression:
        with self.nested():
            base = self._primary()
            for _ in range(MAX_OPERATORS_IN_A_ROW):
                match self.take_any("^!%"):
                    case "^":
                        base = Operation("power", (base, self._exponent()))
                    case "!":
                        base = Operation("factorial", (base,))
                    case "%":
                        base = Operation("quotient", (base, Number(Fraction(100))))
                    case _:
                        return base
            raise Unreadable("too many operators behind one value")

    def _exponent(self) -> Expression:
        with self.nested():
            sign = self.take_any("+-")
            exponent = self._primary()
            if self.take_any("^"):
                exponent = Operation("power", (exponent, self._exponent()))
            return negated(exponent) if sign == "-" else exponent

    def _primary(self) -> Expression:
        if self.peek() in _CLOSING:
            return self._bracketed()
        if sign := self.take_any("π∞"):
            return Constant.PI if sign == "π" else Constant.INFINITY
        if text := self.take(_TEXT):
            return self._named(text[1])
        if command := self.take(_COMMAND):
            return self._command(command[1])
        if run := self._letter_run():
            self.position += len(run)
            return self._named(run)
        return self._number()

    def _bracketed(self) -> Expression:
        opening = self.expect("([{|")
        inner = self.expression()
        self.expect(_CLOSING[opening])
        return Operation("abs", (inner,)) if opening == "|" else inner

    def _number(self) -> Expression:
        if mixed := self.take(_MIXED_NUMBER):
            return _mixed(Fraction(mixed[1]), Operation("quotient", (_whole(mixed[2]), _whole(mixed[3]))))
        if self.commas_group and (grouped := self.take(_GROUPED_NUMBER)):
            return Number(Fraction(grouped[0].replace(",", "")))
        number = self.take(_NUMBER)
        if not number:
            raise Unreadable("expected a value")
        if not self.commas_group and re.fullmatch(r"0\d\d", number[0]):
            raise Unreadable("a comma that may separate items or digits")
        if self.peek() == "_":
            raise Unreadable("a numeral with its base inside an expression")
        if number[1] and abs(int(number[1])) > MAX_DECIMAL_EXPONENT:
            raise Unreadable("decimal exponent too large")
        value = Fraction(number[0])
        if value.denominator == 1 and (command := self.at(_COMMAND)) and command[1] == "frac":
            return _mixed(value, self._primary())
        return Number(value)

    def _command(self, name: str) -> Expression:
        if name in ("frac", "binom"):
            return Operation("quotient" if name == "frac" else "binomial", (self._argument(), self._argument()))
        if name in _GREEK:
            return Symbol("\\" + name + self._subscript())
        if name not in _COMMANDS:
            raise Unreadable(f"unknown command {name}")
        return self._named(name)

    def _named(self, name: str) -> Expression:
        if name == "sqrt":
            return self._root()
        if name in FUNCTIONS:
            return self._call(FUNCTIONS[name])
        if len(name) > 1 and name not in CONSTANTS:
            raise Unreadable(f"unknown name {name}")
        subscript = self._subscript()
        return CONSTANTS[name] if name in CONSTANTS and not subscript else Symbol(name + subscript)

    def _subscript(self) -> str:
        subscript = self.take(_SUBSCRIPT)
        return f"_{subscript[1] or subscript[2]}" if subscript else ""

    def _argument(self) -> Expression:
        """What LaTeX takes as an argument: a group, or a single character or command."""
        digit = self.take(_DIGIT)
        return _whole(digit[0]) if digit else self._primary()

    def _root(self) -> Expression:
        index: Expression = Number(Fraction(2))
        if self.take_any("["):
            index = self._number()
            self.expect("]")
            if not isinstance(index, Number) or index.value.denominator != 1 or index.value < 2:
                raise Unreadable("root index")
        root = Operation("root", (self._argument(), index))
        if self.at(_DIGIT):
            raise Unreadable("digits right after a root read in two ways")
        return root

    def _call(self, function: Function) -> Expression:
        base: tuple[Expression, ...] = ()
        if function == "log" and self.take_any("_"):
            base = (self._argument(),)
        power = self._exponent() if self.take_any("^") else None
        if power is not None and not (isinstance(power, Number) and power.value > 0):
            raise Unreadable("inverse or power of a function")
        argument = self._bracketed() if self.peek() in ("(", "{", "[") else self._bare_argument()
        value = Operation(function, (argument, *base))
        return value if power is None else Operation("power", (value, power))

    def _bare_argument(self) -> Expression:
        """x of sin x, 2x of sin 2x: factors up to a sign or the next function."""
        factors = [self._factor()]
        while self._starts_factor():
            command = self.at(_COMMAND)
            name = command[1] if command else self._letter_run()
            if name in FUNCTIONS or self.peek() in ("(", "["):
                break
            factors.append(self._factor())
        return _joined("product", factors)


def _whole(digits: str) -> Number:
    return Number(Fraction(digits))


def _mixed(whole: Fraction, behind: Expression) -> Expression:
    """1 4/5; with anything but a proper fraction of whole numbers behind, a plain product."""
    match behind:
        case Operation("quotient", (Number(top), Number(bottom))) if top.denominator == bottom.denominator == 1:
            if not 0 < top < bottom:
                raise Unreadable("a whole number before an improper fraction reads in two ways")
            return Number(whole + top / bottom)
        case _:
            return Operation("product", (Number(whole), behind))


def _product(factors: list[Expression], *, is_written: bool) -> Expression:
    return _joined("written product" if is_written else "product", factors)


def _joined(operator: Operator, operands: list[Expression]) -> Expression:
    return operands[0] if len(operands) == 1 else Operation(operator, tuple(operands))
