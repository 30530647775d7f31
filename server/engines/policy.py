"""The policy's engine, over anything that continues a sequence of tokens.

It joins two Protocols. A `Completer` runs the model: our own forward pass on torch, transformers, vLLM beside this
server, or a vLLM server elsewhere. A `StepFormat` says how the model reads a path and writes a step: as it was trained,
or shown by a few-shot prompt.
"""

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from search import Candidate, CandidateStop, Path, PathTooLong
from server.engines.protocols import Engine, EngineStats, Sampling
from server.engines.rendering import PathRendering, PathSegments, PathTokens, StepTokenizer, joined


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """`n` continuations of one prompt."""

    segments: PathSegments
    """The prompt, cut where paths of one search part."""
    n: int
    seed: int
    """The seed determines all samples of the request; requests with different seeds share none."""
    sampling: Sampling
    max_tokens: int
    """At least 1; prompt and continuation together fit the model's context."""
    stop_token_ids: tuple[int, ...] = ()
    """A continuation ends with the first of them, and keeps it."""
    stop_strings: tuple[str, ...] = ()
    """A continuation ends with the token that completes the first of them, and keeps it."""

    @property
    def prompt(self) -> tuple[int, ...]:
        """The segments as one sequence."""
        return joined(self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One continuation."""

    token_ids: tuple[int, ...]
    """All tokens sampled, the one that ended it included."""
    logprob: float
    """Sum of the natural log-probabilities at temperature 1."""


class Completer(Engine, Protocol):
    """An engine that continues prompts of any text."""

    async def complete(self, request: CompletionRequest) -> Sequence[Completion]:
        """`n` completions. Cancelling the call stops the model. Raises `EngineError`."""
        ...


class StepFormat(PathRendering):
    """How a model reads paths and writes steps.

    Example: a trained policy ends the step `x = 1` with the token `<end_of_step>`, an instruct model with that text.
    """

    stop_token_ids: tuple[int, ...]
    """Tokens that end a step."""
    stop_strings: tuple[str, ...] = ()
    """Texts that end a step."""

    @abstractmethod
    def candidate(self, completion: Completion, path: Path) -> Candidate:
        """The step that continues `path`; a completion that does not end as a step does is cut off."""


class TrainedFormat(PathTokens, StepFormat):
    """The step format as a policy was trained in it: every mark is one special token."""

    def __init__(self, tokenizer: StepTokenizer) -> None:
        super().__init__(tokenizer)
        self._steps = tokenizer
        self.stop_token_ids = tuple(tokenizer.stops)

    def candidate(self, completion: Completion, path: Path) -> Candidate:  # others look at the path
        """See `StepFormat.candidate`."""
        token_ids, steps = completion.token_ids, self._steps
        stop = steps.stops.get(token_ids[-1], CandidateStop.LENGTH) if token_ids else CandidateStop.LENGTH
        if not all(token < steps.size for token in token_ids):
            stop = CandidateStop.LENGTH  # The padding of the vocabulary has no text, so no step can contain it.
        text = steps.decode_step(token_ids)
        return Candidate(text=text, token_ids=token_ids, logprob=completion.logprob, stop=stop)


class PolicyEngine:
    """The policy's model. Entering and leaving enters and leaves the completer."""

    def __init__(self, completer: Completer, step_format: StepFormat) -> None:
        self.completer = completer
        self.step_format = step_format

    def policy(self, sampling: Sampling) -> "PolicyView":
        """A view with this sampling. It is free to make and lives as long as the engine."""
        return PolicyView(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        """Length of a problem as the model reads it, with instruction and examples where the format has them."""
        return len(self.step_format.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `PolicyView.propose`."""
        if n < 1:
            raise ValueError(f"expected n >= 1, got {n}")
        segments = self.step_format.segments(path)
        length = sum(map(len, segments))
        if length >= self.context_tokens:
            raise PathTooLong(f"the path has {length} tokens, the model's context {self.context_tokens}")
        # Greedy samples are all the same, and vLLM refuses to make more than one.
        copies = n if sampling.temperature == 0 else 1
        request = CompletionRequest(
            segments=segments,
            n=n // copies,
            seed=seed,
            sampling=sampling,
            max_tokens=min(self.context_tokens - length, sampling.max_step_tokens),
            stop_token_ids=self.step_format.stop_token_ids,
            stop_strings=self.step_format.stop_strings,
        )
        completions = await self.completer.complete(request)
        return [self.step_format.candidate(completion, path) for completion in completions] * copies

    @property
    def model_id(self) -> str:
        return self.completer.model_id

    @property
    def context_tokens(self) -> int:
        return self.completer.context_tokens

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return self.completer.fault

    @property
    def stats(self) -> EngineStats:
        return self.completer.stats

    async def __aenter__(self) -> Self:
        await self.completer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.completer.__aexit__()


@dataclass(frozen=True, slots=True)
class PolicyView:
    """`search.protocols.Policy` with one way of sampling. Any number of views share an engine, and its batch."""

    engine: PolicyEngine
    sampling: Sampling

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates, sampled from generators of their own.

        A candidate's log-probability covers all tokens that the model wrote. Greedy candidates are all the same. Raises
        `PathTooLong`, `EngineError`, and ValueError for n < 1 or for tokens of another model.
        """
        return await self.engine.propose(path, n, seed=seed, sampling=self.sampling)


def vllm_seed(seed: int) -> int:
    """A hash from 0 to 2**62 - 1. vLLM gives sample k of a request this number + k: neighbouring seeds must not stay
    neighbours, and must fit into signed 64-bit numbers."""
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8).digest(), "big") >> 2
