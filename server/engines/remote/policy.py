"""The remote policy: `server.engines.protocols.PolicyEngine` over a vLLM server with a policy of the step format.

Paths travel as token ids, so that the server's prefix cache hits; the tokenizer at hand is that of the model served.
"""

from collections.abc import Sequence

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path
from server.engines.fewshot.completer import CompletingEngine, Completion, CompletionRequest
from server.engines.policy_view import PolicyView, room_for_step
from server.engines.protocols import Sampling
from server.engines.remote.client import RemoteAddress, RemoteLimits, RemoteTraffic
from server.engines.remote.completer import RemoteCompleter
from server.engines.remote.model import telling_tokens
from server.engines.rendering import PathTokens, StepTokenizer


class RemotePolicyEngine(CompletingEngine):
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
        self._remote = RemoteCompleter(
            address, context_tokens=context_tokens, telling=telling_tokens(tokenizer), limits=limits
        )
        super().__init__(self._remote)

    def policy(self, sampling: Sampling) -> PolicyView:
        """See `server.engines.protocols.PolicyEngine`."""
        return PolicyView(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        return len(self.path_tokens.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `PolicyView.propose`."""
        prompt = self.path_tokens.token_ids(path)
        room = room_for_step(len(prompt), n, context_tokens=self.context_tokens, sampling=sampling)
        request = CompletionRequest(
            prompt=prompt,
            n=n,
            seed=seed,
            sampling=sampling,
            max_tokens=room,
            stop_token_ids=tuple(self._tokenizer.stops),
        )
        return [self._candidate(completion) for completion in await self._completer.complete(request)]

    @property
    def traffic(self) -> RemoteTraffic:
        """Attempts and retries."""
        return self._remote.traffic

    def _candidate(self, completion: Completion) -> Candidate:
        token_ids = completion.token_ids
        stop = self._tokenizer.stops.get(token_ids[-1], CandidateStop.LENGTH) if token_ids else CandidateStop.LENGTH
        if not all(token < self._tokenizer.size for token in token_ids):
            stop = CandidateStop.LENGTH  # The padding of the vocabulary has no text: no step that could go on.
        return Candidate(
            text=self._tokenizer.decode_step(token_ids), token_ids=token_ids, logprob=completion.logprob, stop=stop
        )
