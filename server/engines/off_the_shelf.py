"""Off the shelf: the engines for models of any make, told apart by their folders; nothing has to be set but where they
lie.

policy    a tokenizer with the step format's tokens   a policy of our own kind
          any other causal model                      asked by few-shot prompt
PPM       see `server.engines.prm.engines`            reads the policy's tokens where both tokenizers are one, else text
"""

from pathlib import Path as FilePath

from server.bundle.folders import ModelFolders
from server.engines.errors import CheckpointError
from server.engines.fewshot.engines import local_instruct_policy, remote_instruct_policy
from server.engines.model_folder import check_same_tokens, existing_file
from server.engines.model_kinds import PpmKind, needs_few_shots, ppm_kind
from server.engines.prm.engines import local_prm, remote_prm
from server.engines.protocols import Engines, PolicyEngine
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.engines import model_context_tokens
from server.engines.remote.policy import RemotePolicyEngine
from server.engines.rendering import StepTokenizer
from server.engines.torch.engines import torch_policy_engine
from server.engines.torch.runtime import TorchRuntime, serving_runtime


def torch_engines_of_any_make(folders: ModelFolders, runtime: TorchRuntime | None = None) -> Engines:
    """Run here, by torch. Takes seconds. Raises `CheckpointError`."""
    runtime = runtime or serving_runtime()
    reads_policy_tokens = _reads_policy_tokens(folders)
    if needs_few_shots(folders.policy):
        policy: PolicyEngine = local_instruct_policy(folders.policy, runtime=runtime)
    else:
        policy = torch_policy_engine(folders.policy, runtime)
    return Engines(policy=policy, ppm=local_prm(folders.ppm, reads_policy_tokens=reads_policy_tokens, runtime=runtime))


def remote_engines_of_any_make(
    policy: RemoteAddress, ppm: RemoteAddress, folders: ModelFolders, *, limits: RemoteLimits | None = None
) -> Engines:
    """On vLLM servers elsewhere.

    `folders` need hold no weights, only configuration and tokenizer of the models that the servers serve. Raises
    `CheckpointError` for folders that cannot be read, and for models of our own kind whose tokens differ.
    """
    scorer = remote_prm(ppm, folders.ppm, reads_policy_tokens=_reads_policy_tokens(folders), limits=limits)
    if needs_few_shots(folders.policy):
        return Engines(policy=remote_instruct_policy(policy, folders.policy, limits=limits), ppm=scorer)
    context_tokens = model_context_tokens(folders.policy)
    engine = RemotePolicyEngine(policy, _tokenizer(folders.policy), context_tokens=context_tokens, limits=limits)
    return Engines(policy=engine, ppm=scorer)


def _reads_policy_tokens(folders: ModelFolders) -> bool:
    """Whether steps go to the PPM as the policy's own tokens."""
    kind = ppm_kind(folders.ppm)
    if kind is PpmKind.PROCESS_REWARD or needs_few_shots(folders.policy):
        return False
    try:
        check_same_tokens(folders, _tokenizer(folders.policy), _tokenizer(folders.ppm))
    except CheckpointError:
        if kind is PpmKind.STANDARD:
            raise
        return False
    return True


def _tokenizer(folder: FilePath) -> StepTokenizer:
    return StepTokenizer(existing_file(folder, "tokenizer.json"))
