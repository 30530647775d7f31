r"""Responses: the result of a search as the JSON that the client gets.

An answer is also given as LaTeX, as people read it: programs print `3*x**2/7`, people read `\frac{3 x^{2}}{7}`. That
reads Python's syntax and evaluates nothing. An answer that is no plain Python expression, such as LaTeX, is unchanged.

A response with a tree is made on another thread, so that the event loop goes on serving other requests.
"""

import ast
import asyncio
import json
import re

from search import Execution, Node, SearchResult
from search.format import observation
from server.http import schemas
from server.solving.searches import FinishedSearch

TREE_ID_DIGITS = 24
"""Enough that no two trees share an id."""
_LINE_BREAKS = str.maketrans({"\x85": r"\u0085", "\u2028": r"\u2028", "\u2029": r"\u2029"})
"""Characters that many a reader of lines, Python's included, takes for the end of one. JSON escapes all the others."""


def json_bytes(payload: object) -> bytes:
    """One line of UTF-8. Half a surrogate pair, which a program may print, becomes a question mark."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False)
    return text.translate(_LINE_BREAKS).encode("utf-8", errors="replace")


async def response_body(finished: FinishedSearch) -> bytes:
    """The response to the request that began the search: one line of JSON."""
    if not finished.request.returns_tree:
        return json_bytes(solve_response(finished).model_dump(exclude={"tree"}))
    return await asyncio.to_thread(_body_with_tree, finished)


def solve_response(finished: FinishedSearch) -> schemas.SolveResponse:
    """The response without the tree."""
    result = finished.result
    usage, phases = result.usage, result.phase_seconds
    return schemas.SolveResponse(
        id=finished.search_id,
        answer=result.answer,
        answer_latex=None if result.answer is None else latex(result.answer),
        confidence=result.confidence,
        confidence_fitted=finished.request.has_fitted_confidence,
        stop_reason=result.stop_reason,
        steps=_steps(result),
        answers=[
            schemas.Answer(answer=group.answer, votes=group.votes, weight=group.weight, score=group.score)
            for group in result.answers
        ],
        trajectories_to_answer=result.trajectories_to_answer,
        tree_id=finished.fingerprint[:TREE_ID_DIGITS],
        usage=schemas.Usage(
            trajectories=usage.trajectories,
            policy_tokens=usage.policy_tokens,
            ppm_tokens=usage.ppm_step_tokens + finished.problem_tokens * usage.ppm_calls,
            ppm_calls=usage.ppm_calls,
            code_steps=usage.code_steps,
            cached_trajectories=usage.cached_trajectories,
        ),
        timing_s=schemas.Timing(
            total=finished.total_s,
            queue=finished.queue_s,
            policy=phases.policy,
            sandbox=phases.sandbox,
            ppm=phases.ppm,
        ),
        models=schemas.Models(policy=finished.models.policy, ppm=finished.models.ppm),
    )


def _body_with_tree(finished: FinishedSearch) -> bytes:
    # One node after the other: a single call for thousands of them would let no other thread run meanwhile.
    nodes = [json_bytes(_tree_node(node).model_dump()) for node in finished.result.tree.nodes]
    rest = json_bytes(solve_response(finished).model_dump(exclude={"tree"}))
    return rest.removesuffix(b"}") + b', "tree": [' + b", ".join(nodes) + b"]}"


def split_comment(text: str) -> tuple[str, str]:
    """A code step's leading comment lines, joined and without their marks, and the code after them."""
    lines = text.strip("\n").splitlines()
    comments: list[str] = []
    while lines and lines[0].lstrip().startswith("#"):
        comments.append(lines.pop(0).strip().lstrip("#").strip())
    return " ".join(comments), "\n".join(lines).strip("\n")


def _steps(result: SearchResult) -> list[schemas.Step]:
    """The steps that ran code; the answer step states their result, and is in `answer`."""
    nodes = (result.tree[node_id] for node_id in result.best_path)
    return [_step(node, node.execution) for node in nodes if node.execution is not None]


def _tree_node(node: Node) -> schemas.TreeNode:
    return schemas.TreeNode(
        node_id=node.id,
        parent=node.parent,
        depth=node.depth,
        text="" if node.step is None else node.step.text,
        output="" if node.execution is None else _output(node.execution),
        outcome=node.outcome,
        answer=node.answer,
        score=node.score,
        value=node.value,
        visits=node.visits,
    )


def _output(execution: Execution) -> str:
    return observation([execution]) if execution.error is None else execution.error


def _step(node: Node, execution: Execution) -> schemas.Step:
    comment, code = split_comment("" if node.step is None else node.step.text)
    return schemas.Step(
        comment=comment,
        code=code,
        output=observation([execution]),
        score=node.score,
        value=node.value,
        visits=node.visits,
    )


MAX_CHARS = 2000
"""Longer answers stay unchanged, as they are too long to be read."""

_ADD, _MULTIPLY, _NEGATE, _POWER, _ATOM = range(5)
"""Binding strength of a piece; a piece gets brackets where its place needs a stronger one."""

_CONSTANTS = {"pi": r"\pi", "oo": r"\infty", "inf": r"\infty", "I": "i", "E": "e"}
_NOT_PLAIN = "not a plain expression"
_NAME = re.compile(r"[A-Za-z]\d*")
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_FUNCTIONS = {"sin", "cos", "tan", "log", "ln", "exp", "gcd", "max", "min"}
_BRACKETS = {ast.Tuple: (r"\left(", r"\right)"), ast.List: (r"\left[", r"\right]"), ast.Set: (r"\left\{", r"\right\}")}


def latex(answer: str) -> str:
    """`answer` as LaTeX without dollar signs."""
    if len(answer) > MAX_CHARS or "\\" in answer:
        return answer
    try:
        expression = ast.parse(answer.strip(), mode="eval").body
        for node in ast.walk(expression):
            if isinstance(node, ast.Constant):
                node.kind = ast.get_source_segment(answer.strip(), node)
        return _piece(expression)[0]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return answer


def _piece(node: ast.expr) -> tuple[str, int]:
    """LaTeX, and how tightly it holds together."""
    match node:
        case ast.Constant():
            return _number(node.kind or ""), _ATOM
        case ast.Name(id=name):
            return _named(name), _ATOM
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return f"-{_within(operand, _NEGATE)}", _NEGATE
        case ast.BinOp(left=left, op=op, right=right):
            return _operation(left, op, right)
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items) if items:
            opening, closing = _BRACKETS[type(node)]
            return f"{opening}{', '.join(_piece(item)[0] for item in items)}{closing}", _ATOM
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if arguments:
            return _call(name, [_piece(argument)[0] for argument in arguments]), _ATOM
        case _:
            raise ValueError(_NOT_PLAIN)


def _operation(left: ast.expr, op: ast.operator, right: ast.expr) -> tuple[str, int]:
    match op:
        case ast.Add() | ast.Sub():
            sign = "+" if isinstance(op, ast.Add) else "-"
            return f"{_within(left, _ADD)} {sign} {_within(right, _MULTIPLY)}", _ADD
        case ast.Mult():
            first, second = _within(left, _MULTIPLY), _within(right, _POWER)
            between = r" \cdot " if second[0].isdigit() else " "
            return f"{first}{between}{second}", _MULTIPLY
        case ast.Div():
            return rf"\frac{{{_piece(left)[0]}}}{{{_piece(right)[0]}}}", _MULTIPLY
        case ast.Pow():
            return f"{_within(left, _ATOM)}^{{{_piece(right)[0]}}}", _POWER
        case _:
            raise ValueError(_NOT_PLAIN)


def _within(node: ast.expr, needed: int) -> str:
    text, holds = _piece(node)
    return text if holds >= needed else rf"\left({text}\right)"


def _number(spelling: str) -> str:
    """As it was spelt: 1.50 keeps its zero."""
    if not _NUMBER.fullmatch(spelling):
        raise ValueError(_NOT_PLAIN)
    mantissa, _, exponent = spelling.lower().partition("e")
    return mantissa if not exponent else rf"{mantissa} \cdot 10^{{{int(exponent)}}}"


def _named(name: str) -> str:
    if name in _CONSTANTS:
        return _CONSTANTS[name]
    if not _NAME.fullmatch(name):
        raise ValueError(_NOT_PLAIN)
    return name if len(name) == 1 else f"{name[0]}_{{{name[1:]}}}"


def _call(name: str, arguments: list[str]) -> str:
    match name, arguments:
        case "sqrt", [argument]:
            return rf"\sqrt{{{argument}}}"
        case "abs" | "Abs", [argument]:
            return rf"\left|{argument}\right|"
        case "Rational" | "Fraction", [numerator, denominator]:
            return rf"\frac{{{numerator}}}{{{denominator}}}"
        case _ if name in _FUNCTIONS:
            return rf"\{name}\left({', '.join(arguments)}\right)"
        case _:
            raise ValueError(_NOT_PLAIN)
