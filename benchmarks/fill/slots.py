"""Slots: a simulated engine that behaves like a GPU: a step takes the same time for any batch that fits its slots.

A sequence waits for a slot, takes one step for each of its tokens, and leaves. It does not wait for the other sequences
of its request. The wrapped policy provides the candidates, without delay.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from search import Candidate, Path, Policy


@dataclass(slots=True, eq=False)
class _Sequence:
    tokens_left: int
    ended: asyncio.Event


class SlotEngine:
    """One engine; `policy` gives views of it."""

    def __init__(self, *, slots: int, step_s: float) -> None:
        self._slots = slots
        self._step_s = step_s
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._asked = asyncio.Event()
        self.slot_seconds = 0.0
        """Seconds during which slots were taken, summed over the slots."""

    def policy(self, policy: Policy) -> Policy:
        """A policy that returns the proposals of `policy` after the simulated time of generating them."""
        return _SlotPolicy(policy, self)

    @asynccontextmanager
    async def decoding(self) -> AsyncGenerator[None]:
        """The engine runs while this is open."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._decode())
            try:
                yield
            finally:
                task.cancel()

    async def write(self, tokens: Sequence[int]) -> None:
        """Generate one sequence per number of tokens. Cancelling frees the slots."""
        sequences = [_Sequence(max(1, count), asyncio.Event()) for count in tokens]
        self._waiting.extend(sequences)
        self._asked.set()
        try:
            for sequence in sequences:
                await sequence.ended.wait()
        finally:
            for sequence in sequences:
                sequence.ended.set()

    async def _decode(self) -> None:
        while True:
            self._running = [sequence for sequence in self._running if not sequence.ended.is_set()]
            while self._waiting and len(self._running) < self._slots:
                sequence = self._waiting.popleft()
                if not sequence.ended.is_set():
                    self._running.append(sequence)
            if not self._running:
                self._asked.clear()
                await self._asked.wait()
                continue
            await asyncio.sleep(self._step_s)
            self.slot_seconds += self._step_s * len(self._running)
            for sequence in self._running:
                sequence.tokens_left -= 1
                if not sequence.tokens_left:
                    sequence.ended.set()


@dataclass(frozen=True, slots=True)
class _SlotPolicy:
    policy: Policy
    engine: SlotEngine

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        candidates = await self.policy.propose(path, n, seed=seed)
        await self.engine.write([len(candidate.token_ids) for candidate in candidates])
        return candidates
