"""The few-shot policy: `server.engines.protocols.PolicyEngine` over any model that continues text.

Slower and weaker than a policy trained in the step format, since it reads the examples each time (the prefix cache
spares computing them) and may stray from the format; what strays is cut off. It makes the first training data.
"""

from collections.abc import Sequence

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path
from server.engines.fewshot.candidates import STOP_STRINGS, candidate_of
from server.engines.fewshot.completer import Completer, CompletingEngine, CompletionRequest
from server.engines.fewshot.tokens import InstructTokens
from server.engines.policy_view import PolicyView, room_for_step
from server.engines.protocols import Sampling


class InstructPolicyEngine(CompletingEngine):
    """Proposes steps by showing how."""

    def __init__(self, completer: Completer, tokens: InstructTokens) -> None:
        """Enters and leaves the `completer`, which reads these tokens."""
        super().__init__(completer)
        self._tokens = tokens

    def policy(self, sampling: Sampling) -> PolicyView:
        """See `server.engines.protocols.PolicyEngine`."""
        return PolicyView(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        """Instruction and examples included."""
        return len(self._tokens.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `PolicyView.propose`."""
        prompt = self._tokens.token_ids(path)
        room = room_for_step(len(prompt), n, context_tokens=self.context_tokens, sampling=sampling)
        request = CompletionRequest(
            prompt=prompt,
            n=n,
            seed=seed,
            sampling=sampling,
            max_tokens=room,
            stop_token_ids=tuple(sorted(self._tokens.end_ids)),
            stop_strings=STOP_STRINGS,
        )
        code_has_ended = bool(path.steps) and path.steps[-1].stop is CandidateStop.END_OF_CODE
        return [
            candidate_of(completion, self._tokens, code_has_ended=code_has_ended)
            for completion in await self._completer.complete(request)
        ]
