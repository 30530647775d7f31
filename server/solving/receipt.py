"""Receipt: the result of a search as the response that the client gets. Pure."""

from dataclasses import dataclass

from search import Execution, Node, PhaseSeconds, SearchResult, StopReason, Tree, Usage
from search.observation import observation
from server.answers.latex import latex
from server.http import schemas
from server.http.schemas import Answer, Models, SolveResponse, Step, Timing, TreeNode
from server.solving.orders import Order


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """Seconds that the request spent, as its owner measured them."""

    total_s: float
    queue_s: float


def never_begun(problem: str) -> SearchResult:
    """The result of a search that was cancelled before its turn came."""
    nothing = Usage(
        trajectories=0, cached_trajectories=0, policy_tokens=0, ppm_calls=0, ppm_step_tokens=0, code_steps=0
    )
    return SearchResult(
        tree=Tree(problem),
        answers=(),
        answer=None,
        confidence=0.0,
        best_path=(),
        trajectories_to_answer=None,
        stop_reason=StopReason.CANCELLED,
        usage=nothing,
        phase_seconds=PhaseSeconds(policy=0.0, sandbox=0.0, ppm=0.0),
    )


def response_for(  # what a receipt is made of
    result: SearchResult, *, search_id: str, order: Order, models: Models, waited: Waited, problem_tokens: int
) -> SolveResponse:
    """Everything a client may want to know about its search."""
    usage, phases = result.usage, result.phase_seconds
    return SolveResponse(
        id=search_id,
        answer=result.answer,
        answer_latex=None if result.answer is None else latex(result.answer),
        confidence=result.confidence,
        stop_reason=result.stop_reason,
        steps=_steps(result),
        answers=[
            Answer(answer=group.answer, votes=group.votes, weight=group.weight, score=group.score)
            for group in result.answers
        ],
        trajectories_to_answer=result.trajectories_to_answer,
        tree_id=order.tree_id(models),
        usage=schemas.Usage(
            trajectories=usage.trajectories,
            policy_tokens=usage.policy_tokens,
            ppm_tokens=usage.ppm_step_tokens + problem_tokens * usage.ppm_calls,
            ppm_calls=usage.ppm_calls,
            code_steps=usage.code_steps,
            cached_trajectories=usage.cached_trajectories,
        ),
        timing_s=Timing(
            total=waited.total_s,
            queue=waited.queue_s,
            policy=phases.policy,
            sandbox=phases.sandbox,
            ppm=phases.ppm,
        ),
        models=models,
        tree=[_tree_node(node) for node in result.tree.nodes] if order.returns_tree else None,
    )


def split_comment(text: str) -> tuple[str, str]:
    """A code step's leading comment lines, joined and without their marks, and the code after them."""
    lines = text.strip("\n").splitlines()
    comments: list[str] = []
    while lines and lines[0].lstrip().startswith("#"):
        comments.append(lines.pop(0).strip().lstrip("#").strip())
    return " ".join(comments), "\n".join(lines).strip("\n")


def _steps(result: SearchResult) -> list[Step]:
    """Those that ran code; the answer step states what they found, and is in `answer`."""
    nodes = (result.tree[node_id] for node_id in result.best_path)
    return [_step(node, node.execution) for node in nodes if node.execution is not None]


def _tree_node(node: Node) -> TreeNode:
    return TreeNode(
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


def _step(node: Node, execution: Execution) -> Step:
    comment, code = split_comment("" if node.step is None else node.step.text)
    return Step(
        comment=comment,
        code=code,
        output=observation([execution]),
        score=node.score,
        value=node.value,
        visits=node.visits,
    )
