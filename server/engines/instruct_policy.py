"""The few-shot policy: `server.engines.protocols.PolicyEngine` over any model that continues text.

Slower and weaker than a policy trained in the step format, since it reads the examples each time (the prefix cache
spares computing them) and may stray from the format; what strays is cut off. It makes the first training data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from search.outcomes import CandidateStop
from search.protocols import Candidate, Path, PathTooLong
from server.engines.instruct_candidates import STOP_STRINGS, candidate_of
from server.engines.instruct_completer import Completer, CompletionRequest
from server.engines.instruct_tokens import InstructTokens
from server.engines.protocols import Sampling
from server.engines.stats import EngineStats


class InstructPolicyEngine:
    """Proposes steps by showing how."""

    def __init__(self, completer: Completer, tokens: InstructTokens) -> None:
        """Enters and leaves the `completer`, which reads these tokens."""
        self._completer = completer
        self._tokens = tokens

    def policy(self, sampling: Sampling) -> "InstructPolicy":
        """See `server.engines.protocols.PolicyEngine`."""
        return InstructPolicy(self, sampling)

    def prompt_tokens(self, problem: str) -> int:
        """Instruction and examples included."""
        return len(self._tokens.token_ids(Path(problem=problem)))

    async def propose(self, path: Path, n: int, *, seed: int, sampling: Sampling) -> Sequence[Candidate]:
        """See `InstructPolicy.propose`."""
        if n < 1:
            raise ValueError(f"expected n >= 1, got {n}")
        prompt = self._tokens.token_ids(path)
        room = self.context_tokens - len(prompt)
        if room < 1:
            raise PathTooLong(f"the path has {len(prompt)} tokens, the model's context {self.context_tokens}")
        request = CompletionRequest(
            prompt=prompt,
            n=n,
            seed=seed,
            sampling=sampling,
            max_tokens=min(room, sampling.max_step_tokens),
            stop_token_ids=tuple(sorted(self._tokens.end_ids)),
            stop_strings=STOP_STRINGS,
        )
        code_has_ended = bool(path.steps) and path.steps[-1].stop is CandidateStop.END_OF_CODE
        return [
            candidate_of(completion, self._tokens, code_has_ended=code_has_ended)
            for completion in await self._completer.complete(request)
        ]

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

    async def __aenter__(self) -> Self:
        await self._completer.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._completer.__aexit__()


@dataclass(frozen=True, slots=True)
class InstructPolicy:
    """A view of the engine that draws in one way."""

    engine: InstructPolicyEngine
    sampling: Sampling

    async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
        """`n` candidates. A candidate's log-probability is that of everything the model wrote, marks included.

        Raises `PathTooLong`, `EngineError`, and ValueError for n < 1 or for tokens of another model.
        """
        return await self.engine.propose(path, n, seed=seed, sampling=self.sampling)
