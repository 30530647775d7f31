"""The policy view: an engine that is told with each proposal how to draw, as `search.protocols.Policy` for one way."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from search.protocols import Candidate, Path, PathTooLong
from server.engines.protocols import Sampling


class ProposingEngine(Protocol):
    """What a view is a view of."""

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `PolicyView.propose`."""
        ...


@dataclass(frozen=True, slots=True)
class PolicyView:
    """Draws in one way."""

    engine: ProposingEngine
    sampling: Sampling

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates, drawn from generators of their own.

        A candidate's log-probability is that of everything the model wrote. Greedy candidates are all the same. Raises
        `PathTooLong`, `EngineError`, and ValueError for n < 1 or for tokens of another model.
        """
        return await self.engine.propose(path, n, seed=seed, sampling=self.sampling)


def room_for_step(path_tokens: int, n: int, *, context_tokens: int, sampling: Sampling) -> int:
    """The most tokens of a candidate after so long a path. Raises `PathTooLong`, and ValueError for n < 1."""
    if n < 1:
        raise ValueError(f"expected n >= 1, got {n}")
    if path_tokens >= context_tokens:
        raise PathTooLong(f"the path has {path_tokens} tokens, the model's context {context_tokens}")
    return min(context_tokens - path_tokens, sampling.max_step_tokens)
