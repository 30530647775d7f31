"""Torch engines: policy and PPM of one process, read from their folders."""

from pathlib import Path as FilePath

from server.bundle.folders import ModelFolders
from server.engines.protocols import Engines
from server.engines.torch.checkpoint import load_policy, load_ppm
from server.engines.torch.policy import TorchPolicyEngine
from server.engines.torch.ppm import TorchScorer
from server.engines.torch.runtime import TorchRuntime, serving_runtime


def torch_engines(folders: ModelFolders, runtime: TorchRuntime | None = None) -> Engines:
    """Read both folders; takes seconds. By default all cores are theirs.

    Raises `CheckpointError`, also where the two do not fit each other.
    """
    runtime = runtime or serving_runtime()
    policy, ppm = load_policy(folders.policy), load_ppm(folders.ppm)
    return Engines(policy=TorchPolicyEngine(policy, runtime=runtime), ppm=TorchScorer(ppm, runtime=runtime))


def torch_policy_engine(folder: FilePath, runtime: TorchRuntime | None = None) -> TorchPolicyEngine:
    """The policy alone, for searches without a PPM."""
    return TorchPolicyEngine(load_policy(folder), runtime=runtime)
