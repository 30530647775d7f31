"""Scalar grammar: reads one expression by recursive descent. The whole language of scalars is in this file.

    expression = ["+" | "-" | "±"] term {("+" | "-" | "±") term}
    term       = factor {["*" | "/"] factor}             no sign between two factors means a product
    factor     = primary {"^" exponent | "!" | "%"}
    primary    = number | letter | constant | function | fraction | root | bracketed expression | |expression|

What readers would disagree on is refused rather than guessed: 1/2x, two numbers side by side, 2\\frac{3}{2}.
"""

import re
from fractions import Fraction

from server.answers.expressions import (
    Call,
    Constant,
    Expression,
    Function,
    Number,
    Power,
    Product,
    Quotient,
    Root,
    Sum,
    Symbol,
    negated,
)
from server.answers.scanner import Scanner, Unreadable
from server.answers.units import UNITS

MAX_OPERATORS_IN_A_ROW = 5
"""Of a/b/c and 5!!: each makes the tree one level deeper."""
MAX_DECIMAL_EXPONENT = 400
"""Of 1.92e-24: what floats can hold, and a bound on the digits of the exact value."""

FUNCTIONS: dict[str, Function] = {
    **{function.value: function for function in Function if function not in (Function.ABS, Function.BINOMIAL)},
    "asin": Function.ARCSIN,
    "acos": Function.ARCCOS,
    "atan": Function.ARCTAN,
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

_NUMBER = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?")
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
            terms = [self._signed_term(self.take_any("+-±") or "+")]
            while sign := self.take_any("+-±"):
                terms.append(self._signed_term(sign))
            return terms[0] if len(terms) == 1 else Sum(tuple(terms))

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
        is_explicit = True
        divisions = 0
        while True:
            if operator := self.take_any("*/"):
                sign = self.take_any("-")
                factor = negated(self._factor()) if sign else self._factor()
                if operator == "/" and divisions > MAX_OPERATORS_IN_A_ROW:
                    raise Unreadable("too many divisions in a row")
                if operator == "/":
                    factors[:] = [Quotient(_product(factors, is_explicit=is_explicit), factor)]
                    is_explicit, divisions = True, divisions + 1
                else:
                    factors.append(factor)
            elif self._starts_factor():
                if divisions:
                    raise Unreadable("a division followed by a product without a sign reads in two ways")
                factors.append(self._factor())
                is_explicit = False
            else:
                return _product(factors, is_explicit=is_explicit)

    def _starts_factor(self) -> bool:
        """Whether a factor follows without a sign. A number or a bar never does: both would read in two ways."""
        if self.at(_LETTERS):
            return self._letter_run() != ""
        if self.peek() in ("(", "[", "{", "π"):
            return True
        if text := self.at(_TEXT):
            return len(text[1]) == 1 and text[1] in CONSTANTS
        command = self.at(_COMMAND)
        return command is not None and (command[1] in ("frac", "sqrt", "binom") or self._names_a_value(command[1]))

    @staticmethod
    def _names_a_value(command: str) -> bool:
        return command in FUNCTIONS or command in _GREEK

    def _letter_run(self) -> str:
        """The part of the coming letters that is one token of an expression; empty if they are a word or a unit."""
        letters = self.at(_LETTERS)
        if not letters:
            return ""
        run = letters[0]
        if run in FUNCTIONS or run in CONSTANTS or run == "sqrt":
            return run
        if len(run) > 1 and (len(run) > 3 or run.lower() in UNITS or run.lower() in CONNECTIVES):
            return ""
        return run[0]

    def _factor(self) -> Expression:
        with self.nested():
            base = self._primary()
            for _ in range(MAX_OPERATORS_IN_A_ROW):
                operator = self.take_any("^!%")
                if operator == "^":
                    base = Power(base, self._exponent())
                    if self.peek() == "^":
                        self.refuse("power of a power without brackets")
                elif operator == "!":
                    base = Call(Function.FACTORIAL, (base,))
                elif operator == "%":
                    base = Quotient(base, Number(Fraction(100)))
                else:
                    return base
            raise Unreadable("too many operators behind one value")

    def _exponent(self) -> Expression:
        with self.nested():
            sign = self.take_any("+-")
            exponent = self._primary()
            if self.take_any("^"):
                exponent = Power(exponent, self._exponent())
            return negated(exponent) if sign == "-" else exponent

    def _primary(self) -> Expression:
        if self.peek() in _CLOSING:
            return self._bracketed()
        if self.peek() == "π":
            self.take_any("π")
            return Constant.PI
        if self.take_any("∞"):
            return Constant.INFINITY
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
        return Call(Function.ABS, (inner,)) if opening == "|" else inner

    def _number(self) -> Expression:
        if mixed := self.take(_MIXED_NUMBER):
            return self._mixed(Fraction(mixed[1]), Quotient(_whole(mixed[2]), _whole(mixed[3])))
        grouped = self.take(_GROUPED_NUMBER) if self.commas_group else None
        if grouped:
            return Number(Fraction(grouped[0].replace(",", "")))
        number = self.take(_NUMBER)
        if not number:
            raise Unreadable(f"expected a value at character {self.position}")
        if not self.commas_group and re.fullmatch(r"0\d\d", number[0]):
            self.refuse("a comma that may separate items or digits")
        if self.peek() == "_":
            self.refuse("a numeral with its base inside an expression")
        _, _, exponent = number[0].lower().partition("e")
        if exponent and abs(int(exponent)) > MAX_DECIMAL_EXPONENT:
            self.refuse("decimal exponent too large")
        value = Fraction(number[0])
        if value.denominator == 1 and (command := self.at(_COMMAND)) and command[1] == "frac":
            fraction = self._primary()
            if isinstance(fraction, Quotient):
                return self._mixed(value, fraction)
        return Number(value)

    def _mixed(self, whole: Fraction, fraction: Quotient) -> Expression:
        """1 4/5; with anything but a proper fraction of whole numbers behind, a plain product."""
        match fraction:
            case Quotient(Number(top), Number(bottom)) if top.denominator == bottom.denominator == 1:
                if not 0 < top < bottom:
                    raise Unreadable("a whole number before an improper fraction reads in two ways")
                return Number(whole + top / bottom)
            case _:
                return Product((Number(whole), fraction))

    def _command(self, name: str) -> Expression:
        if name == "frac":
            return Quotient(self._argument(), self._argument())
        if name == "binom":
            return Call(Function.BINOMIAL, (self._argument(), self._argument()))
        if name in FUNCTIONS or name == "sqrt":
            return self._named(name)
        if name in _GREEK:
            return Symbol("\\" + name + self._subscript())
        raise Unreadable(f"unknown command {name}")

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
        if self.peek() == "{":
            return self._bracketed()
        if digit := self.take(_DIGIT):
            return _whole(digit[0])
        return self._primary()

    def _root(self) -> Expression:
        index = 2
        if self.take_any("["):
            degree = self._number()
            self.expect("]")
            if not isinstance(degree, Number) or degree.value.denominator != 1 or degree.value < 2:
                raise Unreadable("root index")
            index = degree.value.numerator
        root = Root(self._argument(), index)
        if self.at(_DIGIT):
            self.refuse("digits right after a root reads in two ways")
        return root

    def _call(self, function: Function) -> Expression:
        base: tuple[Expression, ...] = ()
        if function is Function.LOG and self.take_any("_"):
            base = (self._argument(),)
        power = self._exponent() if self.take_any("^") else None
        if power is not None and not (isinstance(power, Number) and power.value > 0):
            raise Unreadable("inverse or power of a function")
        bracketed = self.peek() in ("(", "{", "[")
        value = Call(function, (self._bracketed() if bracketed else self._bare_argument(), *base))
        return value if power is None else Power(value, power)

    def _bare_argument(self) -> Expression:
        """x of sin x, 2x of sin 2x: factors up to a sign or the next function."""
        factors = [self._factor()]
        while self._starts_factor():
            run, command = self._letter_run(), self.at(_COMMAND)
            if run in FUNCTIONS or (command and command[1] in FUNCTIONS) or self.peek() in ("(", "["):
                break
            factors.append(self._factor())
        return _product(factors, is_explicit=False)


def _whole(digits: str) -> Number:
    return Number(Fraction(digits))


def _product(factors: list[Expression], *, is_explicit: bool) -> Expression:
    return factors[0] if len(factors) == 1 else Product(tuple(factors), is_explicit)
