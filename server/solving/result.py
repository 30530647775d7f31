"""Result: how a search ended, with all that a response may tell of it. Pure."""

from dataclasses import dataclass

from search import PhaseSeconds, SearchResult, StopReason, Tree, Usage
from server.parts.serving import ModelIds
from server.solving.refusals import Refusal
from server.solving.request import SearchRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedSearch:
    """A search that came to a result, if only to the best one so far."""

    search_id: str
    request: SearchRequest
    result: SearchResult
    models: ModelIds
    problem_tokens: int
    """Length of the problem as the policy reads it."""
    queue_s: float
    """Seconds in the queue."""
    total_s: float
    """Seconds from the request's arrival to the result."""

    @property
    def tree_id(self) -> str:
        """Names the search tree."""
        return self.request.tree_id(self.models)


SearchEnding = FinishedSearch | Refusal
"""What everyone who waits for a search gets in the end."""


def cancelled_in_queue(problem: str) -> SearchResult:
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
