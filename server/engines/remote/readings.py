"""Readings: how a score is asked of a remote pooling model, and how its answer becomes a number in [-1, 1]."""

import math
from collections.abc import Sequence
from typing import Protocol

from server.engines.remote.client import RemoteClient
from server.engines.remote.errors import RemoteMismatch
from server.engines.remote.model import RemoteModel
from server.engines.remote.payloads import JsonObject, as_list, in_order, numbers, objects

TokenIds = Sequence[int]


class Reading(Protocol):
    """One kind of reward model."""

    async def scores(self, client: RemoteClient, model: RemoteModel, prompts: Sequence[TokenIds]) -> list[float]:
        """One score per prompt, from one request. Raises `RemoteMismatch`, and what the client raises."""
        ...

    async def check(self, client: RemoteClient, model: RemoteModel, prompt: TokenIds) -> None:
        """Raise `RemoteMismatch` unless the model behaves as this kind does."""
        ...


class RawScoreReading:
    """A `*ForSequenceClassification` PPM with one label: tanh of the raw score at the last token."""

    async def scores(self, client: RemoteClient, model: RemoteModel, prompts: Sequence[TokenIds]) -> list[float]:
        return [math.tanh(score) for score in await self._raw(client, model, prompts, use_activation=False)]

    async def check(self, client: RemoteClient, model: RemoteModel, prompt: TokenIds) -> None:
        """A server that knows the switch under another name would hand out probabilities as raw scores."""
        (raw,) = await self._raw(client, model, [prompt], use_activation=False)
        (squashed,) = await self._raw(client, model, [prompt], use_activation=True)
        if not math.isclose(squashed, 1 / (1 + math.exp(-raw)), abs_tol=1e-3):
            raise RemoteMismatch(
                f"{client.url} gives {raw:.4f} as raw score and {squashed:.4f} as probability, which do not belong "
                "together; it needs vLLM 0.32 or later, whose switch is use_activation"
            )

    async def _raw(
        self, client: RemoteClient, model: RemoteModel, prompts: Sequence[TokenIds], *, use_activation: bool
    ) -> list[float]:
        path = "/classify"
        body = {"model": model.name, "input": prompts, "use_activation": use_activation, "add_special_tokens": False}
        items = _items(await client.post(path, body), where=client.url + path, expected=len(prompts))
        rows = [numbers(item.get("probs"), where=client.url + path, what="probs") for item in items]
        if any(len(row) != 1 for row in rows):
            raise RemoteMismatch(f"{client.url}: expected a PPM with 1 label, found {len(rows[0])}")
        return [row[0] for row in rows]


class StepProbabilityReading:
    """A `Qwen2ForProcessRewardModel`: its probabilities (wrong, right) at each step separator; the last one counts."""

    async def scores(self, client: RemoteClient, model: RemoteModel, prompts: Sequence[TokenIds]) -> list[float]:
        return [2 * rows[-1][1] - 1 for rows in await self._rows(client, model, prompts)]

    async def check(self, client: RemoteClient, model: RemoteModel, prompt: TokenIds) -> None:
        (rows,) = await self._rows(client, model, [prompt])
        if len(rows) != 1 or not math.isclose(sum(rows[0]), 1.0, abs_tol=1e-2):
            raise RemoteMismatch(
                f"{client.url} answers a path of one step with {len(rows)} rows of sum {sum(rows[0]):.3f}; expected 1 "
                "row of 2 probabilities, as Qwen2ForProcessRewardModel with STEP pooling gives"
            )

    async def _rows(
        self, client: RemoteClient, model: RemoteModel, prompts: Sequence[TokenIds]
    ) -> list[list[list[float]]]:
        path = "/pooling"
        where = client.url + path
        body = {
            "model": model.name,
            "input": prompts,
            "task": "token_classify",
            "use_activation": True,
            "add_special_tokens": False,
        }
        items = _items(await client.post(path, body), where=where, expected=len(prompts))
        return [_probability_rows(item.get("data"), where=where) for item in items]


def _items(answer: JsonObject, *, where: str, expected: int) -> list[JsonObject]:
    return in_order(objects(answer, "data", where=where), where=where, expected=expected)


def _probability_rows(value: object, *, where: str) -> list[list[float]]:
    pairs = [numbers(row, where=where, what="data") for row in as_list(value) or []]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise RemoteMismatch(f"{where}: expected 2 probabilities per step, got {str(pairs)[:80]}; is it a PRM?")
    return pairs
