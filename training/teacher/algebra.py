"""Algebra families: simple_equations, polynomial_equations, simple_integration, number_sequence."""

import re

from training.teacher.solution import Step, Strategy, find, flawed, right, show

CONSTANTS: dict[str, frozenset[float]] = {
    "simple_equations": frozenset({0, 1}),
    "polynomial_equations": frozenset({0, 1, 2, 4}),
    "simple_integration": frozenset(),
    "number_sequence": frozenset({0, 1, 2, 10, 11, 20, 21}),
}


def simple_equations(question: str) -> list[Strategy]:
    """`Solve for b: 1666 - 28*b = 574`."""
    found = find(r"([-+*\d\sa-z]*\b[a-z]\b[-+*\d\sa-z]*) = (-?\d+)$", question)
    left, c = found[1].strip().split(": ")[-1], found[2]
    a, b = _linear(left)
    read = Step("Write it as a*x + b = c", f"a = {a}\nb = {b}\nc = {c}")
    close = show("round(x)")
    return [
        right("isolate", read, Step("Subtract b and divide by a", "x = (c - b) / a"), close),
        right("divide", Step("Divide both sides", f"x = {c} / {a}"), close, applies=b == "0"),
        flawed(
            "moves_sign",
            read,
            Step("Bring b over and divide by a", "x = (c + b) / a"),
            close,
            weight=2.0,
            applies=b.startswith("-"),
        ),
    ]


def _linear(left: str) -> tuple[str, str]:
    """Coefficient and constant of a left side such as `1666 - 28*b`, as written."""
    a, b = "0", "0"
    for sign, number, unknown in re.findall(r"([+-]?)\s*(\d*)\*?([a-z]?)", left):
        value = sign.replace("+", "") + (number or "1")
        if unknown:
            a = value
        elif number:
            b = value
    return a, b


def polynomial_equations(question: str) -> list[Strategy]:
    """`Solve for real k: -8*k**3 - 47*k = 0\\nIn solving equations, ...`."""
    found = find(r"([-+*\d\sa-z]*?) = 0$", question.split("\nIn solving", maxsplit=1)[0])
    x = find(r"real(?: value\(s\) of)? ([a-z])\b", question)[1]
    expression = found[1].split("equation: ")[-1].split("satisfies: ")[-1].splitlines()[-1].strip()
    declare = Step("Name the unknown", f"from sympy import symbols, real_roots\n{x} = symbols('{x}')")
    close = show("', '.join(str(round(float(r), 4)) for r in roots)")
    is_divisible = re.fullmatch(rf"-?[^ ]*{x}[^ ]*( [+-] [^ ]*{x}[^ ]*)+", expression) is not None
    return [
        right(
            "real_roots",
            declare,
            Step("Find the real roots", f"roots = sorted(set(real_roots({expression}, {x})))"),
            close,
        ),
        flawed(
            "divides_by_unknown",
            declare,
            Step("Divide by the unknown first", f"roots = real_roots({_divided(expression, x)}, {x})"),
            close,
            weight=3.5,
            applies=is_divisible and len(re.findall(x, expression)) > 1,
        ),
    ]


def _divided(expression: str, x: str) -> str:
    """`85*b**2 + 53*b` as `85*b + 53`."""
    lower = {f"{x}**3": f"{x}**2", f"{x}**2": x, x: "1"}
    return re.sub(rf"{x}(\*\*[23])?", lambda power: lower[power[0]], expression).replace("*1", "")


def simple_integration(question: str) -> list[Strategy]:
    """`Calculate the antiderivative: ∫ -63*X**8 + 35*X**4 dx\\nWhen performing ...`."""
    integrand = find(r"∫ (.*) dx", question)[1]
    x = "X" if "X" in integrand else "x"
    read = Step(
        "Write the integrand", f"from sympy import symbols, sympify\n{x} = symbols('{x}')\nf = sympify('{integrand}')"
    )
    close = show("f'{F} + C'")
    return [
        right("integrate", read, Step("Integrate it", f"from sympy import integrate\nF = integrate(f, {x})"), close),
        flawed(
            "derivative",
            read,
            Step("Take the derivative", f"from sympy import diff\nF = diff(f, {x})"),
            close,
            weight=2.0,
            applies="antiderivative" in question,
        ),
    ]


_RULES: tuple[tuple[str, str, str], ...] = (
    ("adds the two before", "all(z == x + y for x, y, z in zip(seq, seq[1:], seq[2:]))", "seq[-1] + seq[-2]"),
    ("doubles", "all(y == 2 * x for x, y in zip(seq, seq[1:]))", "2 * seq[-1]"),
    ("halves and rounds down", "all(y == x // 2 for x, y in zip(seq, seq[1:]))", "seq[-1] // 2"),
    ("adds the same number", "len({y - x for x, y in zip(seq, seq[1:])}) == 1", "seq[-1] + seq[1] - seq[0]"),
    ("squares", "all(y == x ** 2 for x, y in zip(seq, seq[1:]))", "seq[-1] ** 2"),
)


def number_sequence(question: str) -> list[Strategy]:
    """`-9, -14, -21, -32, ?`."""
    numbers = question.removesuffix("?").strip().removesuffix(",")
    sequence = [int(number) for number in numbers.split(",")]
    read = Step("Write the sequence", f"seq = [{numbers}]")
    close = show("n")
    by_rule = [
        right(
            f"rule_{index}",
            read,
            Step(f"Each term {name}", f"assert {check}"),
            Step("So the next term follows", f"n = {following}"),
            close,
            weight=3.0,
        )
        for index, (name, check, following) in enumerate(_RULES)
        if _holds(check, sequence)
    ][:1]
    search = (
        "rules = [(p, q, c, d) for d in (1, 2) for q in (0, 1, 2) for p in range(-10, 11) for c in range(-20, 21)\n"
        "    if all((p * y + q * x + c) // d == z for x, y, z in zip(seq, seq[1:], seq[2:]))]"
    )
    return [
        *by_rule,
        right(
            "search_rule",
            read,
            Step("Look for a linear rule on the last two terms", search),
            Step("Apply the first rule found", "p, q, c, d = rules[0]\nn = (p * seq[-1] + q * seq[-2] + c) // d"),
            close,
        ),
        flawed(
            "repeats_difference",
            read,
            Step("Take the last difference", "step = seq[-1] - seq[-2]"),
            Step("Add it once more", "n = seq[-1] + step"),
            close,
            weight=12.0,
            applies=sequence[0] < 0 and bool(by_rule) and by_rule[0].name != "rule_3",
        ),
    ]


def _holds(check: str, sequence: list[int]) -> bool:
    """Whether one of this module's own rules fits the sequence."""
    return bool(eval(check, {"seq": sequence}))  # the checks are the literals above
