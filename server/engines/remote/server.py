"""The remote engine: one vLLM server elsewhere, found at the start, watched from then on, left running at the end.

`RemoteEngine` is what the remote policy and the remote PPM share. It waits for the server, finds the model, and
compares its tokenizer with the local one before any other call.
"""

import asyncio
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from search.format import SPECIAL_TOKENS, Segment
from server.engines.errors import EngineClosed, RemoteMismatch, RemoteUnavailable
from server.engines.health import HealthWatch, watching
from server.engines.protocols import EngineName, EngineStats
from server.engines.remote.client import RemoteAddress, RemoteClient, RemoteLimits, objects
from server.engines.rendering import END_OF_TEXT, SegmentTokenizer

logger = logging.getLogger(__name__)

_SAMPLE_TEXT = "".join((*SPECIAL_TOKENS, END_OF_TEXT)) + "\n# Add 12 and 30\n<|im_start|>total = 42<extra_0><|im_end|>"
"""Two tokenizers read its tokens alike only if they share their special tokens, and most likely all others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteModel:
    """One of the models that a server serves."""

    name: str
    context_tokens: int
    model_id: str
    """Name and server. Serve changed weights under a new name, since the weights behind a name cannot be seen here."""


class RemoteEngine(ABC):
    """`server.engines.protocols.Engine`, by one server. Leaving it closes the connections for good."""

    def __init__(
        self,
        name: EngineName,
        address: RemoteAddress,
        tokenizer: SegmentTokenizer,
        *,
        context_tokens: int,
        limits: RemoteLimits | None,
        end_ids: Collection[int] = (),
    ) -> None:
        """`context_tokens`: of the model; the server may serve fewer. `end_ids`: see `sample_tokens`."""
        self.counters = EngineStats()
        self._client = RemoteClient(address, limits=limits)
        self._name = name
        self._model_tokens = context_tokens
        self._wanted = address.model
        self._tokenizer = tokenizer
        self._end_ids = end_ids
        self._model: RemoteModel | None = None
        self._answered_s = 0.0
        self._watch = HealthWatch(
            f"the {name} server",
            is_up=self._answered_lately,
            start=self._probe_twice,
            unavailable=RemoteUnavailable,
            look_s=self._client.limits.probe_s / 5,
            patience_s=self._client.limits.start_s,
            delays_s=(0.0,),
        )
        self._stack = AsyncExitStack()
        self._is_closed = False

    @property
    def model(self) -> RemoteModel:
        """The model that the server serves; known once entered."""
        if self._model is None:
            raise RuntimeError(f"the {self._name} engine was not entered; use it as an async context manager")
        return self._model

    @property
    def model_id(self) -> str:
        return self.model.model_id

    @property
    def context_tokens(self) -> int:
        """The longest sequence that both the model and the server take."""
        return self._model_tokens if self._model is None else min(self._model_tokens, self._model.context_tokens)

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return self._watch.fault

    @property
    def stats(self) -> EngineStats:
        return self.counters.snapshot()

    async def __aenter__(self) -> Self:
        """Waits for the server. Raises `RemoteMismatch` where its model is another, and what the client raises."""
        async with AsyncExitStack() as starting:
            await starting.enter_async_context(self._client)
            await self._wait_until_up()
            self._model = await _find_model(self._client, self._wanted)
            await self._check_tokens()
            await self._check()
            self._answered_s = asyncio.get_running_loop().time()
            await starting.enter_async_context(watching([self._watch]))
            self._stack = starting.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._is_closed = True
        await self._stack.aclose()

    @contextmanager
    def calling(self, units: int) -> Generator[None]:
        """Wraps one call for `units` sequences or paths: counts it, and reports its success to the watch."""
        if self._is_closed:
            raise EngineClosed("the engine was closed")
        self.counters.running += units
        try:
            with self.counters.calling(), self._watch.calling():
                yield
        except (RemoteUnavailable, RuntimeError) as error:
            # A client that was closed under the call ends it as a broken connection, or refuses to try again.
            if self._is_closed:
                raise EngineClosed("the engine was closed") from error
            raise
        finally:
            self.counters.running -= units
        self.counters.observe_batch(units)
        self._answered_s = asyncio.get_running_loop().time()
        self._watch.recovered()

    @abstractmethod
    async def _check(self) -> None:
        """Check that the server's model behaves as expected. Raises `RemoteMismatch`."""

    async def _check_tokens(self) -> None:
        """Raise `RemoteMismatch` unless the server decodes tokens to the same text as this tokenizer.

        The opposite direction proves less: transformers may cut a text into other tokens than `tokenizer.json` does,
        and nothing is ever sent as text.
        """
        ids = sample_tokens(self._tokenizer, self._end_ids)
        text = self._tokenizer.decode(ids)
        answer = await self._client.post("/detokenize", {"model": self.model.name, "tokens": ids})
        if answer.get("prompt") != text:
            raise RemoteMismatch(
                f"{self._client.url} reads tokens as {answer.get('prompt')!r} that say {text!r} here; give as "
                f"RSTAR_POLICY_MODEL and RSTAR_PPM_MODEL the folders of the models served ({self.model.name} here)"
            )

    def _answered_lately(self) -> bool:
        return asyncio.get_running_loop().time() - self._answered_s < self._client.limits.probe_s

    async def _probe_twice(self) -> None:
        """Probe twice: a busy server may miss one probe, so it counts as unavailable only after two."""
        try:
            await self._client.probe()
        except RemoteUnavailable:
            await asyncio.sleep(self._client.limits.probe_s)
            await self._client.probe()
        self._answered_s = asyncio.get_running_loop().time()

    async def _wait_until_up(self) -> None:
        """Raises `RemoteUnavailable` when the time for a start is over."""
        now, limits = asyncio.get_running_loop().time, self._client.limits
        started_s = now()
        for attempt in itertools.count():
            try:
                await self._client.probe()
            except RemoteUnavailable as error:
                if attempt == 0:
                    logger.warning("waiting for the %s server: %s", self._name, error)
                if now() - started_s >= limits.start_s:
                    raise RemoteUnavailable(
                        f"the {self._name} server is not up after {limits.start_s:g} s: {error}; "
                        f"start it, or correct RSTAR_{self._name.upper()}_URL"
                    ) from error
            else:
                break
            await asyncio.sleep(limits.start_poll_s)


def sample_tokens(tokenizer: SegmentTokenizer, end_ids: Collection[int] = ()) -> list[int]:
    """Tokens that distinguish tokenizers, among them `end_ids`, with which the model ends its turn."""
    return [*tokenizer.encode(Segment(_SAMPLE_TEXT, is_trusted=True)), *sorted(end_ids)]


async def _find_model(client: RemoteClient, name: str | None) -> RemoteModel:
    """The model of that name, or the only one. Raises `RemoteMismatch`, and the errors of the client."""
    cards = objects(await client.get("/v1/models"), "data", where=f"{client.url}/v1/models")
    by_name = {str(card.get("id")): card for card in cards}
    # Adapters are listed beside the model that they adapt; without a name the model itself is meant.
    own = [served for served, card in by_name.items() if card.get("parent") is None]
    if name is None and len(own) != 1:
        raise RemoteMismatch(f"{client.url} serves {', '.join(own) or 'no model'}; say by name which one to use")
    chosen = own[0] if name is None else name
    if chosen not in by_name:
        raise RemoteMismatch(f"{client.url} serves {', '.join(by_name) or 'no model'}, not {chosen}")
    context_tokens = by_name[chosen].get("max_model_len")
    if not isinstance(context_tokens, int):
        raise RemoteMismatch(f"{client.url} does not tell the context length of {chosen}; is it a vLLM server?")
    return RemoteModel(
        name=chosen, context_tokens=context_tokens, model_id=f"{chosen}@{urlsplit(client.url).netloc or client.url}"
    )
