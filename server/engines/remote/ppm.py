"""The remote PPM: `server.engines.protocols.ScorerEngine` over a vLLM server that runs a pooling model.

All paths of one call go in one request; which head the model has, and how a path is shown to it, are arguments.
"""

from collections.abc import Mapping, Sequence

from search.protocols import Path, PathTooLong
from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.engine import RemoteEngine
from server.engines.remote.model import check_tokens, telling_tokens
from server.engines.remote.readings import RawScoreReading, Reading
from server.engines.rendering import PathRendering, PathTokens, StepTokenizer


class RemoteScorerEngine(RemoteEngine):
    """Scores paths with a model that another server runs."""

    def __init__(
        self,
        address: RemoteAddress,
        rendering: PathRendering,
        *,
        reading: Reading,
        telling: Mapping[str, Sequence[int]],
        context_tokens: int,
        limits: RemoteLimits | None = None,
    ) -> None:
        """`telling`: see `check_tokens`. `context_tokens`: of the model."""
        self._rendering = rendering
        self._reading = reading
        self._telling = telling
        super().__init__(EngineName.PPM, address, context_tokens=context_tokens, limits=limits)

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises `PathTooLong`, `EngineError`, and ValueError for foreign tokens."""
        if not paths:
            return []
        prompts = [self._rendering.token_ids(path) for path in paths]
        longest = max(map(len, prompts))
        if longest > self.context_tokens:
            raise PathTooLong(f"a path has {longest} tokens, the PPM's context {self.context_tokens}")
        with self._server.calling(len(paths)):
            scores = await self._reading.scores(self._server.client, self._server.model, prompts)
        self._server.counters.tokens_encoded += sum(map(len, prompts))
        return scores

    async def _check(self) -> None:
        await check_tokens(self._server.client, self._server.model, self._telling)
        probe = self._rendering.token_ids(Path(problem="What is 12 + 30?"))
        await self._reading.check(self._server.client, self._server.model, probe)


def remote_ppm(
    address: RemoteAddress, tokenizer: StepTokenizer, *, context_tokens: int, limits: RemoteLimits | None = None
) -> RemoteScorerEngine:
    """A PPM of our own kind, reading the very tokens that its policy wrote."""
    return RemoteScorerEngine(
        address,
        PathTokens(tokenizer),
        reading=RawScoreReading(),
        telling=telling_tokens(tokenizer),
        context_tokens=context_tokens,
        limits=limits,
    )
