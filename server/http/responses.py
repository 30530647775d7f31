"""Responses: the result of a search as the JSON that the client gets.

A response with a tree is made on another thread, so that the event loop goes on serving other requests.
"""

import asyncio
import json

from search import Execution, Node, SearchResult
from search.format import observation
from server.answers.latex import latex
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
