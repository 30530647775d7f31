"""Arithmetic: chain_sum, basic_arithmetic, decimal_arithmetic, products, power_function, complex_arithmetic."""

import re

from training.teacher.solution import Step, Strategy, find, flawed, right, show

CONSTANTS: dict[str, frozenset[float]] = {
    "chain_sum": frozenset(),
    "basic_arithmetic": frozenset(),
    "decimal_arithmetic": frozenset({9}),
    "products": frozenset({10}),
    "power_function": frozenset({1}),
    "complex_arithmetic": frozenset({0}),
}


def chain_sum(question: str) -> list[Strategy]:
    """`State the final answer to the following arithmetic problem: 8 - 7 + 5 =`."""
    expression = question.split(":", 1)[1].strip().removesuffix("=").strip()
    terms = re.findall(r"[+-]?\s*\d+", expression)
    grouped, groups = re.subn(r"- (\d+) \+ (\d+)", r"- (\1 + \2)", expression, count=1)
    return [
        right("left_to_right", Step("Add and subtract from left to right", f"total = {expression}"), show("total")),
        right(
            "running_total",
            Step("Take the first two numbers", f"total = {' '.join(terms[:2])}"),
            Step("Go on with the other numbers", f"total = total {' '.join(terms[2:])}"),
            show("total"),
            applies=len(terms) > 2,
        ),
        flawed(
            "groups_after_minus",
            Step("Group the numbers after the minus sign", f"total = {grouped}"),
            show("total"),
            weight=4.5,
            applies=len(terms) > 3 and groups == 1,
        ),
    ]


def basic_arithmetic(question: str) -> list[Strategy]:
    """`Calculate ( ( 3 * -9 ) ) / 27 + -9.`."""
    expression = question.removeprefix("Calculate").strip().removesuffix(".").strip()
    close = show("round(result)")
    has_minus = "-( " in expression
    without_minus = expression.replace("-( ", "( ")
    without_brackets = re.sub(r"\s+", " ", re.sub(r"[()]", "", expression)).strip()
    return [
        right("evaluate", Step("Evaluate the expression", f"result = {expression}"), close),
        flawed(
            "ignores_minus",
            Step("Open the brackets", f"result = {without_minus}"),
            close,
            weight=2.2,
            applies=has_minus,
        ),
        flawed(
            "drops_brackets",
            Step("Leave out the brackets", f"result = {without_brackets}"),
            close,
            weight=2.2,
            applies=not has_minus and "(" in expression and ("*" in expression or "/" in expression),
        ),
    ]


def decimal_arithmetic(question: str) -> list[Strategy]:
    """`... Only reply with the final value.\\n(2.902+4.579*(5.191-5.097)) = ?`."""
    expression = question.splitlines()[-1].split(" = ")[0].strip()
    close = show("round(result, 9)")
    floored = expression.replace("/", "//")
    return [
        right("evaluate", Step("Evaluate the expression", f"result = {expression}"), close),
        flawed(
            "whole_division",
            Step("Divide and multiply", f"result = {floored}"),
            close,
            weight=4.0,
            applies="/" in expression and "-" not in expression,
        ),
        right(
            "named",
            Step("Divide and multiply", f"value = {expression}"),
            show("round(value, 9)"),
            weight=0.5,
            applies="/" in expression and "-" in expression,
        ),
    ]


def products(question: str) -> list[Strategy]:
    """`Solve the following multiplication: 189 * 887. ...`."""
    a, b = re.findall(r"\d+", question)[:2]
    read = Step("Read the two factors", f"a = {a}\nb = {b}")
    split = Step("Split the second factor into tens and ones", "tens = b // 10\nones = b % 10")
    return [
        right("direct", read, Step("Multiply the factors", "product = a * b"), show("product"), weight=0.5),
        right(
            "tens_and_ones",
            read,
            split,
            Step("Multiply tens and ones and add", "product = a * tens * 10 + a * ones"),
            show("product"),
            weight=0.5,
        ),
        flawed(
            "forgets_place_value",
            read,
            split,
            Step("Multiply the parts and add", "product = a * tens + a * ones"),
            show("product"),
            weight=1.8,
            applies=len(b) >= 4,
        ),
    ]


def power_function(question: str) -> list[Strategy]:
    """`... Compute -895.2728^1. Return your final answer correct to 3 significant figures. ...`."""
    base, exponent = find(r"Compute (-?[\d.]+)\^(-?\d+)\.", question).groups()
    read = Step("Read base and exponent", f"base = {base}\nexponent = {exponent}")
    close = Step("Print in scientific notation", "print(f'{result:.2e}')")
    loses_sign = base.startswith("-") and int(exponent) % 2 == 0
    is_fraction = exponent.startswith("-") and not loses_sign
    return [
        right("power", read, Step("Raise the base to the exponent", "result = base ** exponent"), close),
        flawed(
            "keeps_minus",
            read,
            Step("Raise the number and keep its sign", "result = -abs(base) ** exponent"),
            close,
            weight=0.2,
            applies=loses_sign,
        ),
        right(
            "reciprocal",
            read,
            Step("Take the reciprocal of the power", "result = 1 / base ** -exponent"),
            close,
            weight=0.5,
            applies=is_fraction,
        ),
        flawed(
            "ignores_minus",
            read,
            Step("Raise to the size of the exponent", "result = base ** abs(exponent)"),
            close,
            weight=2.3,
            applies=is_fraction,
        ),
    ]


def complex_arithmetic(question: str) -> list[Strategy]:
    """`Add the complex numbers: (-8.0 + 3.0i) + (-2.0 - 7.0i)`."""
    found = find(r"^(\w+) the complex numbers: \((.*?)\) ([+\-×÷]) \((.*)\)$", question)
    operator = {"+": "+", "-": "-", "×": "*", "÷": "/"}[found[3]]
    read = Step("Read the complex numbers", f"z = {_complex(found[2])}\nw = {_complex(found[4])}")
    close = Step(
        "Print real and imaginary part",
        "sign = '-' if result.imag < 0 else '+'\nprint(f'{result.real} {sign} {abs(result.imag)}i')",
    )
    return [
        right("complex", read, Step(f"{found[1]} them", f"result = z {operator} w"), close),
        flawed(
            "one_part_only",
            read,
            Step("Take the parts one by one", "result = complex(z.real - w.real, z.imag + w.imag)"),
            close,
            weight=1.9,
            applies=operator == "-",
        ),
        right(
            "parts",
            read,
            Step("Subtract both parts", "result = complex(z.real - w.real, z.imag - w.imag)"),
            close,
            weight=0.3,
            applies=operator == "-",
        ),
    ]


def _complex(text: str) -> str:
    """`-8.0 + 3.0i` as `complex(-8.0, 3.0)`."""
    parts = re.findall(r"([+-]?)\s*([\d.]+)(i?)", text)
    real = next((sign.replace("+", "") + size for sign, size, unit in parts if not unit), "0")
    imaginary = next((sign.replace("+", "") + size for sign, size, unit in parts if unit), "0")
    return f"complex({real}, {imaginary})"
