"""Search request: what one search is to do, however it was asked for. Pure."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace

from search import Budget, SearchConfig
from server.engines.protocols import Sampling
from server.parts.serving import ModelIds


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """A valid request: every default is filled in, and every number is within the operator's limits."""

    problem: str
    config: SearchConfig
    budget: Budget
    """Trajectories and tokens; the time follows from `timeout_s` when the search begins."""
    timeout_s: float
    """Seconds from the request's arrival to its result, the queue included."""
    sampling: Sampling
    seed: int
    endpoint: str
    """Where the request came in, as metrics name it."""
    returns_tree: bool = False
    """Whether the client wants the whole tree."""

    def tree_id(self, models: ModelIds) -> str:
        """Names the tree that this request grows.

        It depends on all that shapes the tree, and neither on the budget nor on when the search stops.
        """
        config = replace(self.config, stop_when_decided=False, stop_at_confidence=None)
        sampled = [self.sampling.temperature, self.sampling.top_p, self.seed]
        shape = [self.problem, asdict(config), sampled, models.policy, models.ppm]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:24]
