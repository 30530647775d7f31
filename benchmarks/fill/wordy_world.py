"""The wordy world: the arithmetic fakes, with steps of uneven length and a PPM that is often wrong. Pure."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

from search import Candidate, CandidateStop, Parts
from search import Path as SearchPath
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality, path_key

DECODE_STEP_S = 0.025
"""About the time of one token of a 7B model on one GPU, whatever the batch."""
STEP_TOKENS = (10, 60)
"""Shortest and longest step; the published models write about 40 tokens a step."""
RUN_S = 0.02
"""One code step in a warm sandbox."""
ERROR_RATE = 0.45
PPM_NOISE = 0.8
"""Standard deviation of the PPM's score, whose mean is +0.5 for a right path and -0.5 for a wrong one."""


@dataclass(frozen=True, slots=True)
class WordyPolicy:
    """The arithmetic policy with steps of uneven length."""

    inner: ArithmeticPolicy

    async def propose(self, path: SearchPath, n: int, *, seed: int) -> Sequence[Candidate]:
        """The same arguments give the same lengths too."""
        rng = random.Random(seed)
        candidates = await self.inner.propose(path, n, seed=seed)
        return [replace(one, token_ids=tuple(range(rng.randint(*STEP_TOKENS)))) for one in candidates]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A problem of this world."""

    question: str
    answer: str


def draw_sum(seed: int) -> Sum:
    """The same seed gives the same problem."""
    rng = random.Random(seed)
    numbers = [rng.randint(2, 60) for _ in range(rng.randint(4, 7))]
    return Sum(question="+".join(map(str, numbers)), answer=str(sum(numbers)))


def wordy_parts() -> Parts:
    """Parts that answer at once; for one search."""
    return Parts(
        policy=WordyPolicy(ArithmeticPolicy(ERROR_RATE)),
        runner=ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(opinion),
    )


def opinion(path: SearchPath) -> float:
    """The score of a noisy PPM: the same path gets the same noise."""
    numbers = path.problem.split("+")
    codes = [step.text for step in path.steps if step.stop is CandidateStop.END_OF_STEP]
    wanted = [f"\ntotal = {'total + ' if done else ''}{number}\n" for done, number in enumerate(numbers)]
    held = 0.5 if codes == wanted[: len(codes)] else -0.5
    digest = blake2b(repr((path.problem, path_key(path))).encode(), digest_size=8).digest()
    return math.tanh(held + random.Random(digest).gauss(0.0, PPM_NOISE))
