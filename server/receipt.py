"""Receipt: the result of a search as the response that the client gets. Pure."""

from dataclasses import dataclass

from search import Execution, Node, SearchResult
from search.observation import observation
from server.orders import Order
from server.schemas import Answer, Models, SolveResponse, Step, Timing, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Waited:
    """Seconds that the request spent, as its owner measured them."""

    total_s: float
    queue_s: float


def response_for(
    result: SearchResult, *, search_id: str, order: Order, models: Models, waited: Waited
) -> SolveResponse:
    """Everything a client may want to know about its search."""
    usage, phases = result.usage, result.phase_seconds
    return SolveResponse(
        id=search_id,
        answer=result.answer,
        confidence=result.confidence,
        stop_reason=result.stop_reason,
        steps=_steps(result),
        answers=[
            Answer(answer=group.answer, votes=group.votes, weight=group.weight, score=group.score)
            for group in result.answers
        ],
        tree_id=order.tree_id(models),
        usage=Usage(
            trajectories=usage.trajectories,
            policy_tokens=usage.policy_tokens,
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
