"""Torch models: policy, greedy policy and PPM of one server, on the torch engine and one thread. Imports torch."""

from collections.abc import Mapping

from search import Path
from server.bundle.folders import ModelFolders
from server.engines.checkpoint import Checkpoint, load_policy, load_ppm
from server.engines.errors import CheckpointError
from server.engines.torch_policy import TorchPolicy
from server.engines.torch_ppm import TorchScorer
from server.engines.torch_runtime import TorchRuntime
from server.parts import Part
from server.settings import Settings

_FAULT = "its engine failed; see the log, and restart the server"


class TorchModels:
    """The engines are context managers, to be entered by the owner in the event loop."""

    def __init__(self, policy: Checkpoint, ppm: Checkpoint, settings: Settings) -> None:
        runtime = TorchRuntime()
        self.policy, self.greedy_policy = (
            TorchPolicy(
                policy,
                temperature=temperature,
                top_p=settings.top_p,
                max_step_tokens=settings.max_step_tokens,
                runtime=runtime,
            )
            for temperature in (settings.temperature, 0.0)
        )
        self.scorer = TorchScorer(ppm, runtime=runtime)
        self.max_prompt_tokens = policy.shape.context_tokens - settings.max_step_tokens
        """What the policy's context holds besides one step."""

    def prompt_tokens(self, problem: str) -> int:
        """Length of a problem as the policy reads it."""
        return len(self.policy.path_tokens.token_ids(Path(problem=problem)))

    def faults(self) -> Mapping[Part, str]:
        """See `ServingParts.faults`."""
        is_well = {
            Part.POLICY: self.policy.healthy and self.greedy_policy.healthy,
            Part.PPM: self.scorer.healthy,
        }
        return {part: _FAULT for part, well in is_well.items() if not well}


def load_models(folders: ModelFolders, settings: Settings) -> TorchModels:
    """Read both folders; takes seconds. Raises `CheckpointError` also where the two models do not fit each other."""
    policy, ppm = load_policy(folders.policy), load_ppm(folders.ppm)
    if (policy.tokenizer.size, policy.tokenizer.special_ids) != (ppm.tokenizer.size, ppm.tokenizer.special_ids):
        raise CheckpointError(f"{folders.ppm} reads other tokens than {folders.policy}; expected a PPM of that policy")
    if policy.shape.context_tokens <= settings.max_step_tokens:
        raise CheckpointError(
            f"{folders.policy}: a context of {policy.shape.context_tokens} tokens has no room for a problem and a step "
            f"of {settings.max_step_tokens}; lower RSTAR_MAX_STEP_TOKENS"
        )
    return TorchModels(policy, ppm, settings)
