# pyright: basic
"""The decoding loop: continuous batching of policy requests.

Every step drops what was abandoned, admits waiting samples as far as there is room, runs the batch once and hands
back what is finished: nothing waits for the slowest sequence of another request. Runs on the compute thread.
"""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from search.outcomes import CandidateStop
from search.protocols import Candidate
from server.engines.errors import EngineError
from server.engines.stats import EngineCounters
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.decode_batch import GROUP_SIZE, DecodeBatch, Row
from server.engines.torch.inbox import Inbox, Reply
from server.engines.torch.path_encoder import PathSegments
from server.engines.torch.runtime import TorchRuntime
from server.engines.torch.sampling import NUMBERS_PER_TOKEN, Rule, choose

_ADMITTED_TOKENS = 4096
"""Path tokens admitted before the next decoding step, reused ones included: bounds how long running sequences stall."""


@dataclass(slots=True, eq=False)
class Sample:
    """One sequence of a request, while it is written."""

    rng: random.Random
    token_ids: list[int] = field(default_factory=list[int])
    logprob: float = 0.0
    stop: CandidateStop | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProposeRequest:
    """One call of `Policy.propose`."""

    segments: PathSegments
    path_length: int
    max_tokens: int
    rule: Rule
    samples: tuple[Sample, ...]
    reply: Reply[list[Candidate]]


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Samples of one request that join the batch together."""

    request: ProposeRequest
    samples: tuple[Sample, ...]


class PolicyWeights:
    """What the loops of one policy share: the model, and what it has read of paths already."""

    def __init__(self, checkpoint: Checkpoint, runtime: TorchRuntime) -> None:
        self.counters = EngineCounters()
        """Of the encoder."""
        self.tokenizer = checkpoint.tokenizer
        self.model = runtime.model(checkpoint)
        # Without the padding of the vocabulary, whose tokens have no text.
        self.head = self.model.product(checkpoint.head[: checkpoint.tokenizer.size])
        self.encoder = runtime.encoder(self.model, self.counters)


class DecodeLoop:
    """A workload of the policy, with a batch of its own.

    Requests may draw in different ways: each row of the batch keeps its request's rule.
    """

    def __init__(self, weights: PolicyWeights, *, max_batch: int) -> None:
        self.inbox: Inbox[ProposeRequest] = Inbox()
        self.counters = EngineCounters()
        self._max_batch = max_batch
        self._tokenizer = weights.tokenizer
        self._model = weights.model
        self._head = weights.head
        self._encoder = weights.encoder
        self._batch = DecodeBatch(self._model)
        self._held: set[ProposeRequest] = set()
        """Every request not answered yet, also while a step moves it about."""
        self._waiting: deque[_Group] = deque()
        self._running: dict[Row, _Group] = {}
        self._samples: dict[Row, Sample] = {}

    def has_work(self) -> bool:
        return bool(self._running or self._waiting or len(self.inbox))

    def step(self) -> None:
        self._sort_inbox()
        self._drop_abandoned()
        self._admit()
        # Reading paths takes a while: whoever left meanwhile shall not have another token written.
        self._drop_abandoned()
        self._count_levels()
        if self._running:
            self._decode()
        self._count_levels()

    def _count_levels(self) -> None:
        self.counters.running = len(self._running)
        self.counters.waiting = sum(len(group.samples) for group in self._waiting)

    def refuse(self, error: EngineError) -> None:
        for request in (*self.inbox.refuse(error), *self._held):
            request.reply.refuse(error)
        self._held.clear()

    def _sort_inbox(self) -> None:
        """Cut new requests into groups."""
        size = min(GROUP_SIZE, self._max_batch)
        while (request := self.inbox.take()) is not None:
            self.counters.requests += 1
            self._held.add(request)
            for start in range(0, len(request.samples), size):
                self._waiting.append(_Group(request, request.samples[start : start + size]))

    def _drop_abandoned(self) -> None:
        abandoned = {request for request in self._held if request.reply.is_abandoned}
        if abandoned:
            self._held -= abandoned
            self.counters.aborted += len(abandoned)
            self.counters.tokens_aborted += sum(len(one.token_ids) for request in abandoned for one in request.samples)
            self._waiting = deque(group for group in self._waiting if group.request not in abandoned)
            self._leave([row for row, group in self._running.items() if group.request in abandoned])

    def _admit(self) -> None:
        """Start waiting groups, oldest first: each sample's first token follows from the path alone."""
        admitted: list[_Group] = []
        room, tokens = self._max_batch - len(self._batch), _ADMITTED_TOKENS
        while self._waiting and len(self._waiting[0].samples) <= room:
            if admitted and self._waiting[0].request.path_length > tokens:
                break
            admitted.append(self._waiting.popleft())
            room -= len(admitted[-1].samples)
            tokens -= admitted[-1].request.path_length
        if not admitted:
            return
        nodes = self._encoder.encode([group.request.segments for group in admitted])
        repeats = torch.tensor([len(group.samples) for group in admitted])
        hidden = torch.stack([node.hidden for node in nodes]).repeat_interleave(repeats, dim=0)
        pairs = [(group.request, sample) for group in admitted for sample in group.samples]
        self._write(pairs, hidden)
        for node, group in zip(nodes, admitted, strict=True):
            going_on = [sample for sample in group.samples if sample.stop is None]
            if going_on:
                rows = self._batch.join(node, [sample.token_ids[-1] for sample in going_on])
                self._running.update(dict.fromkeys(rows, group))
                self._samples.update(zip(rows, going_on, strict=True))
        self._hand_back(group.request for group in admitted)

    def _decode(self) -> None:
        rows, hidden = self._batch.step()
        self.counters.forward_passes += 1
        self.counters.observe_batch(len(rows))
        self._write([(self._running[row].request, self._samples[row]) for row in rows], hidden)
        finished: list[Row] = []
        for row in rows:
            sample = self._samples[row]
            row.last_token = sample.token_ids[-1]
            if sample.stop is not None:
                finished.append(row)
        requests = [self._running[row].request for row in finished]
        self._leave(finished)
        self._hand_back(requests)

    def _write(self, pairs: list[tuple[ProposeRequest, Sample]], hidden: Tensor) -> None:
        """Sample one more token for each, from the hidden state before it."""
        logits = self._head(hidden)
        numbers = [[sample.rng.random() for _ in range(NUMBERS_PER_TOKEN)] for _, sample in pairs]
        choice = choose(logits, numbers, [request.rule for request, _ in pairs])
        self.counters.tokens_generated += len(pairs)
        for (request, sample), token, logprob in zip(pairs, choice.tokens, choice.logprobs, strict=True):
            sample.token_ids.append(token)
            sample.logprob += logprob
            sample.stop = self._tokenizer.stops.get(token)
            if sample.stop is None and len(sample.token_ids) >= request.max_tokens:
                sample.stop = CandidateStop.LENGTH

    def _leave(self, rows: list[Row]) -> None:
        self._batch.leave(rows)
        for row in rows:
            del self._running[row], self._samples[row]

    def _hand_back(self, requests: Iterable[ProposeRequest]) -> None:
        for request in dict.fromkeys(requests):
            if all(sample.stop is not None for sample in request.samples):
                self._held.discard(request)
                request.reply.resolve([self._candidate(sample) for sample in request.samples])

    def _candidate(self, sample: Sample) -> Candidate:
        assert sample.stop is not None
        token_ids = tuple(sample.token_ids)
        text = self._tokenizer.decode_step(token_ids)
        return Candidate(text=text, token_ids=token_ids, logprob=sample.logprob, stop=sample.stop)
