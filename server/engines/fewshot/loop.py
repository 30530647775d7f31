# pyright: basic
"""The completion loop: runs any causal model of transformers on the compute thread, one request after the other.

All samples of a request run as one batch over one encoding of the prompt. Made for small models and for machines
without vLLM: nothing is shared between requests.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from server.engines.completion_policy import Completion, CompletionRequest
from server.engines.errors import EngineError
from server.engines.stats import EngineCounters
from server.engines.torch.inbox import Inbox, Reply
from server.engines.torch.sampling import NUMBERS_PER_TOKEN, Rule, choose

_TAIL_TOKENS = 32
"""Searched for stop strings: no token is shorter than a character, and no string as long as this."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CompletionWork:
    """One call of `Completer.complete`."""

    request: CompletionRequest
    reply: Reply[list[Completion]]


@dataclass(slots=True, eq=False)
class _Sample:
    """One continuation, while it is written."""

    rng: random.Random
    token_ids: list[int] = field(default_factory=list[int])
    logprob: float = 0.0


@dataclass(slots=True, kw_only=True, eq=False)
class _Running:
    """The request at work."""

    work: CompletionWork
    samples: tuple[_Sample, ...]
    unfinished: list[_Sample]
    """The rows of the batch."""
    cache: DynamicCache
    logits_B_V: Tensor


class CompletionLoop:
    """The workload of `server.engines.torch.compute.Workload` for few-shot prompting."""

    def __init__(self, model: PreTrainedModel, decode: Callable[[Sequence[int]], str], *, vocabulary: int) -> None:
        """`vocabulary`: token ids are below it; the model's own may be padded beyond."""
        self.inbox: Inbox[CompletionWork] = Inbox()
        self.counters = EngineCounters()
        self._model = model
        self._decode = decode
        self._vocabulary = vocabulary
        self._held: CompletionWork | None = None
        """What is being worked on, from its prompt to its answer, so that a failure reaches whoever waits for it."""
        self._running: _Running | None = None

    def has_work(self) -> bool:
        return self._running is not None or len(self.inbox) > 0

    def step(self) -> None:
        """Encode a prompt, or write one token of every sample."""
        if self._running is not None and self._running.work.reply.is_abandoned:
            self.counters.aborted += 1
            self.counters.tokens_aborted += sum(len(sample.token_ids) for sample in self._running.samples)
            self._end()
        if self._running is not None:
            self._write(self._running)
        else:
            self._begin()

    def refuse(self, error: EngineError) -> None:
        held = [] if self._held is None else [self._held]
        for work in (*self.inbox.refuse(error), *held):
            work.reply.refuse(error)
        self._end()

    def _begin(self) -> None:
        work = self.inbox.take()
        if work is None:
            return
        self.counters.requests += 1
        if work.reply.is_abandoned:
            self.counters.aborted += 1
            return
        self._held = work
        request = work.request
        cache = DynamicCache()
        logits = self._forward(torch.tensor([request.prompt]), cache)
        self.counters.tokens_encoded += len(request.prompt)
        # Seeded by a string: Random hashes it, so that neighbouring seeds and samples share nothing.
        samples = tuple(_Sample(random.Random(f"{request.seed}/{k}")) for k in range(request.n))
        cache.batch_repeat_interleave(request.n)
        self.counters.running = request.n
        self._running = _Running(
            work=work,
            samples=samples,
            unfinished=list(samples),
            cache=cache,
            logits_B_V=logits.expand(request.n, -1),
        )

    def _write(self, running: _Running) -> None:
        request = running.work.request
        rule = Rule(request.sampling.temperature, request.sampling.top_p)
        rows = running.unfinished
        numbers = [[row.rng.random() for _ in range(NUMBERS_PER_TOKEN)] for row in rows]
        choice = choose(running.logits_B_V, numbers, [rule] * len(rows))
        self.counters.observe_batch(len(rows))
        self.counters.tokens_generated += len(rows)
        kept: list[int] = []
        for index, (row, token, logprob) in enumerate(zip(rows, choice.tokens, choice.logprobs, strict=True)):
            row.token_ids.append(token)
            row.logprob += logprob
            if not self._is_finished(row, request):
                kept.append(index)
        running.unfinished = [rows[index] for index in kept]
        self.counters.running = len(kept)
        if not kept:
            running.work.reply.resolve(
                [Completion(token_ids=tuple(sample.token_ids), logprob=sample.logprob) for sample in running.samples]
            )
            self._end()
            return
        if len(kept) < len(rows):
            running.cache.batch_select_indices(torch.tensor(kept))
        last = torch.tensor([[choice.tokens[index]] for index in kept])
        running.logits_B_V = self._forward(last, running.cache)

    def _is_finished(self, row: _Sample, request: CompletionRequest) -> bool:
        if len(row.token_ids) >= request.max_tokens or row.token_ids[-1] in request.stop_token_ids:
            return True
        tail = self._decode(row.token_ids[-_TAIL_TOKENS:])
        return any(string in tail for string in request.stop_strings)

    def _forward(self, ids: Tensor, cache: DynamicCache) -> Tensor:
        self.counters.forward_passes += 1
        output = self._model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return output.logits[:, -1, : self._vocabulary].float()

    def _end(self) -> None:
        self._held = None
        self._running = None
        self.counters.running = 0
