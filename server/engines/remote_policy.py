"""The remote policy: `server.engines.protocols.PolicyEngine` over a vLLM server with a policy of the step format.

Paths travel as token ids, so that the server's prefix cache hits; the tokenizer at hand is that of the model served.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathTooLong
from server.engines.instruct_completer import Completion, CompletionRequest
from server.engines.protocols import Sampling
from server.engines.remote_client import RemoteAddress, RemoteLimits, RemoteTraffic
from server.engines.remote_completer import RemoteCompleter
from server.engines.remote_model import telling_tokens
from server.engines.rendering import PathTokens, StepTokenizer
from server.engines.stats import EngineStats


class RemotePolicyEngine:
    """Proposes steps with a model that another server runs."""

    def __init__(
        self,
        address: RemoteAddress,
        tokenizer: StepTokenizer,
        *,
        context_tokens: int,
        limits: RemoteLimits | None = None,
    ) -> None:
        """`context_tokens`: of the model; the server may serve fewer."""
        self.path_tokens = PathTokens(tokenizer)
        self._tokenizer = tokenizer
        self._completer = RemoteCompleter(
            address, context_tokens=context_tokens, telling=telling_tokens(tokenizer), limits=limits
        )

    def policy(self, sampling: Sampling) -> "RemotePolicy":
        """See `server.engines.protocols.PolicyEngine`."""
        return RemotePolicy(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        return len(self.path_tokens.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `RemotePolicy.propose`."""
        if n < 1:
            raise ValueError(f"expected n >= 1, got {n}")
        prompt = self.path_tokens.token_ids(path)
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise PathTooLong(f"the path has {len(prompt)} tokens, the model's context {self.context_tokens}")
        request = CompletionRequest(
            prompt=prompt,
            n=n,
            seed=seed,
            sampling=sampling,
            max_tokens=min(room, sampling.max_step_tokens),
            stop_token_ids=tuple(self._tokenizer.stops),
        )
        return [self._candidate(completion) for completion in await self._completer.complete(request)]

    def _candidate(self, completion: Completion) -> Candidate:
        token_ids = completion.token_ids
        stop = self._tokenizer.stops.get(token_ids[-1], CandidateStop.LENGTH) if token_ids else CandidateStop.LENGTH
        if not all(token < self._tokenizer.size for token in token_ids):
            stop = CandidateStop.LENGTH  # The padding of the vocabulary has no text: no step that could go on.
        return Candidate(
            text=self._tokenizer.decode_step(token_ids), token_ids=token_ids, logprob=completion.logprob, stop=stop
        )

    @property
    def model_id(self) -> str:
        return self._completer.model_id

    @property
    def context_tokens(self) -> int:
        return self._completer.context_tokens

    @property
    def fault(self) -> str | None:
        """See `server.engines.protocols.Engine`."""
        return self._completer.fault

    @property
    def stats(self) -> EngineStats:
        return self._completer.stats

    @property
    def traffic(self) -> RemoteTraffic:
        """Attempts and retries."""
        return self._completer.traffic

    async def __aenter__(self) -> Self:
        """See `RemoteCompleter.__aenter__`."""
        await self._completer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._completer.__aexit__()


@dataclass(frozen=True, slots=True)
class RemotePolicy:
    """A view of the engine that draws in one way."""

    engine: RemotePolicyEngine
    sampling: Sampling

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates, from one request to the server. Greedy ones are one candidate, repeated.

        Raises `PathTooLong`, `EngineError`, and ValueError for n < 1 or for tokens of another model.
        """
        return await self.engine.propose(path, n, seed=seed, sampling=self.sampling)
