"""Remote engines: policy and PPM on vLLM servers elsewhere; folders give only configuration and tokenizer."""

from pathlib import Path as FilePath

from server.bundle.folders import ModelFolders
from server.engines.model_folder import ModelFolder
from server.engines.protocols import Engines
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.policy import RemotePolicyEngine
from server.engines.remote.ppm import remote_ppm


def remote_engines(
    policy: RemoteAddress, ppm: RemoteAddress, folders: ModelFolders, *, limits: RemoteLimits | None = None
) -> Engines:
    """`folders` need hold no weights, only `config.json` and `tokenizer.json` of the models that the servers serve.

    Raises `CheckpointError` for folders that cannot be read, or whose tokens differ.
    """
    tokenizers = [ModelFolder(folder).step_tokenizer for folder in (folders.policy, folders.ppm)]
    return Engines(
        policy=RemotePolicyEngine(
            policy, tokenizers[0], context_tokens=model_context_tokens(folders.policy), limits=limits
        ),
        ppm=remote_ppm(ppm, tokenizers[1], context_tokens=model_context_tokens(folders.ppm), limits=limits),
    )


def model_context_tokens(folder: FilePath) -> int:
    """The longest sequence that the model was made for."""
    return ModelFolder(folder).context_tokens
