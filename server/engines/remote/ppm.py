"""The remote PPM: `server.engines.protocols.ScorerEngine` over a vLLM server that runs a pooling model.

All paths of one call go in one request. The model's kind and its way of reading paths are arguments.
"""

import math
from collections.abc import Sequence

from search import Path
from server.engines.errors import RemoteMismatch
from server.engines.prm.pooling import RAW_SCORE, Pooling, prompts_within
from server.engines.protocols import EngineName
from server.engines.remote.client import RemoteAddress, RemoteLimits, as_list, in_order, numbers, objects
from server.engines.remote.server import RemoteEngine
from server.engines.rendering import PathRendering

_Row = Sequence[float]


class RemoteScorer(RemoteEngine):
    """Scores paths with a model that another server runs."""

    def __init__(
        self,
        address: RemoteAddress,
        rendering: PathRendering,
        pooling: Pooling = RAW_SCORE,
        *,
        context_tokens: int,
        limits: RemoteLimits | None = None,
    ) -> None:
        super().__init__(EngineName.PPM, address, rendering.tokenizer, context_tokens=context_tokens, limits=limits)
        self._rendering = rendering
        self._pooling = pooling

    async def score(self, paths: Sequence[Path]) -> Sequence[float]:
        """One score per path, in order. Raises `PathTooLong`, `EngineError`, and ValueError for foreign tokens."""
        if not paths:
            return []
        prompts = prompts_within(self.context_tokens, paths, self._rendering)
        with self.calling(len(paths)):
            answers = await self._rows(prompts, use_activation=self._pooling.use_activation)
        self.counters.tokens_encoded += sum(map(len, prompts))
        return [self._pooling.score(rows[-1]) for rows in answers]

    async def _check(self) -> None:
        probe = [self._rendering.token_ids(Path(problem="What is 12 + 30?"))]
        (rows,) = await self._rows(probe, use_activation=self._pooling.use_activation)
        if self._pooling is RAW_SCORE:
            # A server that knows the switch under another name would return probabilities as raw scores.
            raw = rows[0][0]
            squashed = (await self._rows(probe, use_activation=True))[0][0][0]
            if not math.isclose(squashed, 1 / (1 + math.exp(-raw)), abs_tol=1e-3):
                raise RemoteMismatch(
                    f"{self._client.url} gives {raw:.4f} as raw score and {squashed:.4f} as probability, which do not "
                    "belong together; it needs vLLM 0.32 or later, whose switch is use_activation"
                )
        elif len(rows) != 1 or not math.isclose(sum(rows[0]), 1.0, abs_tol=1e-2):
            raise RemoteMismatch(
                f"{self._client.url} answers a path of one step with {len(rows)} rows of sum {sum(rows[0]):.3f}; "
                "expected 1 row of 2 probabilities, as Qwen2ForProcessRewardModel with STEP pooling gives"
            )

    async def _rows(self, prompts: Sequence[Sequence[int]], *, use_activation: bool) -> list[list[_Row]]:
        """The rows of each prompt's answer, from one request."""
        is_classified = self._pooling is RAW_SCORE
        path = "/classify" if is_classified else "/pooling"
        where = self._client.url + path
        body = {
            "model": self.model.name,
            "input": prompts,
            "use_activation": use_activation,
            "add_special_tokens": False,
        }
        answer = await self._client.post(path, body if is_classified else {**body, "task": self._pooling.task})
        items = in_order(objects(answer, "data", where=where), where=where, expected=len(prompts))
        if is_classified:
            return [[self._label(item.get("probs"), where=where)] for item in items]
        return [self._probabilities(item.get("data"), where=where) for item in items]

    def _label(self, value: object, *, where: str) -> _Row:
        row = numbers(value, where=where, what="probs")
        if len(row) != self._pooling.width:
            raise RemoteMismatch(f"{self._client.url}: expected a PPM with 1 label, found {len(row)}")
        return row

    def _probabilities(self, value: object, *, where: str) -> list[_Row]:
        rows = [numbers(row, where=where, what="data") for row in as_list(value) or []]
        if not rows or any(len(row) != self._pooling.width for row in rows):
            raise RemoteMismatch(f"{where}: expected 2 probabilities per step, got {str(rows)[:80]}; is it a PRM?")
        return list[_Row](rows)
