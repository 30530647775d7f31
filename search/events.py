"""Events: what a search reports while it runs, as frozen values. The search emits events and never logs."""

from collections.abc import Callable
from dataclasses import dataclass

from search.config import Strategy
from search.outcomes import NodeOutcome
from search.tree import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchStarted:
    """The first event of every search."""

    problem: str
    strategy: Strategy
    cached_trajectories: int
    """Trajectories that were in the tree already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAdded:
    """A candidate became a node, dead or alive."""

    node_id: NodeId
    parent: NodeId
    depth: int
    outcome: NodeOutcome
    score: float | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrajectoryFinished:
    """A rollout came to its end."""

    index: int
    """Trajectories in the tree before this one."""
    node_id: NodeId
    """Where it ended."""
    answer: str | None
    """None where it failed."""
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerChanged:
    """The best answer so far has changed, or its confidence has."""

    answer: str
    confidence: float


Event = SearchStarted | NodeAdded | TrajectoryFinished | AnswerChanged

OnEvent = Callable[[Event], None]
"""Called from within the search: must return at once. What it raises ends the search."""
