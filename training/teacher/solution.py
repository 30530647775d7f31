"""Solutions: what a teacher strategy writes, as commented code steps.

A strategy's code uses only numbers of the problem, constants of the method, and variables of earlier steps; never a
result worked out beforehand. `numbers_used` lists the literals so that a test can hold every strategy to it.
"""

import ast
import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """One reasoning step."""

    comment: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """One way to solve a problem."""

    name: str
    steps: tuple[Step, ...]
    """The last step prints the answer."""
    weight: float
    """Relative frequency among the strategies that apply to the problem."""
    applies: bool
    """Whether the problem invites it."""
    is_flawed: bool = False
    """True for a misconception: code that runs and (nearly always) prints a wrong answer."""


def right(name: str, *steps: Step, weight: float = 1.0, applies: bool = True) -> Strategy:
    """A sound strategy."""
    return Strategy(name=name, steps=steps, weight=weight, applies=applies)


def flawed(name: str, *steps: Step, weight: float, applies: bool = True) -> Strategy:
    """A misconception, offered only where the problem invites it."""
    return Strategy(name=name, steps=steps, weight=weight, applies=applies, is_flawed=True)


def show(expression: str) -> Step:
    """The closing step."""
    return Step("Print the answer", f"print({expression})")


def find(pattern: str, question: str) -> re.Match[str]:
    """Find a text that the generator always writes; its absence is a bug of the teacher."""
    found = re.search(pattern, question)
    assert found, question
    return found


def program(strategy: Strategy) -> str:
    """The strategy's whole code."""
    return "\n".join(step.code for step in strategy.steps)


def numbers_used(code: str) -> frozenset[float]:
    """The numeric literals of a program, as magnitudes."""
    return frozenset(
        abs(float(node.value))
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)
    )
