"""Programs: when two of them are the same, and when one is nearly a copy of the other. Never runs them. Pure."""

import ast
from collections import Counter
from collections.abc import Sequence

NEAR = 0.75
"""Share of equal statements that makes a near-copy: of four statements, one may differ."""


def program_of(steps: Sequence[str]) -> str:
    """The whole program of code steps, as the sandbox runs it."""
    return "\n".join(steps)


def canonical(program: str) -> str:
    """The same for all programs that differ in white space and comments only."""
    try:
        return ast.unparse(ast.parse(program))
    except (SyntaxError, ValueError, RecursionError):
        return "\n".join(_lines(program))


def are_near_copies(one: str, other: str) -> bool:
    """Whether nearly all statements are equal, whatever the variables are called."""
    statements, others = _statements(one), _statements(other)
    return (statements & others).total() >= NEAR * max(statements.total(), others.total())


def variables(program: str) -> frozenset[str]:
    """The names that the program assigns."""
    try:
        return _assigned(ast.parse(program))
    except (SyntaxError, ValueError, RecursionError):
        return frozenset()


def _statements(program: str) -> Counter[str]:
    try:
        module = ast.parse(program)
        nameless = _Nameless(_assigned(module)).visit(module)
        return Counter(ast.unparse(statement) for statement in nameless.body)
    except (SyntaxError, ValueError, RecursionError):
        return Counter(_lines(program))


def _assigned(module: ast.Module) -> frozenset[str]:
    stored = (node for node in ast.walk(module) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
    return frozenset(node.id for node in stored)


class _Nameless(ast.NodeTransformer):
    """Calls all variables the same."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(id="_", ctx=node.ctx) if node.id in self._names else node


def _lines(program: str) -> list[str]:
    return [" ".join(line.split()) for line in program.splitlines() if line.strip()]
