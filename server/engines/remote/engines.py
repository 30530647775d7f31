"""Remote engines: policy and PPM on vLLM servers elsewhere; folders give only configuration and tokenizer."""

from pathlib import Path as FilePath

from server.bundle.folders import ModelFolders
from server.engines.model_folder import check_same_tokens, config_number, existing_file, read_config
from server.engines.protocols import Engines
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.policy import RemotePolicyEngine
from server.engines.remote.ppm import remote_ppm
from server.engines.rendering import StepTokenizer


def remote_engines(
    policy: RemoteAddress, ppm: RemoteAddress, folders: ModelFolders, *, limits: RemoteLimits | None = None
) -> Engines:
    """`folders` need hold no weights, only `config.json` and `tokenizer.json` of the models that the servers serve.

    Raises `CheckpointError` for folders that cannot be read, or whose tokens differ.
    """
    tokenizers = [StepTokenizer(existing_file(folder, "tokenizer.json")) for folder in (folders.policy, folders.ppm)]
    check_same_tokens(folders, *tokenizers)
    return Engines(
        policy=RemotePolicyEngine(
            policy, tokenizers[0], context_tokens=model_context_tokens(folders.policy), limits=limits
        ),
        ppm=remote_ppm(ppm, tokenizers[1], context_tokens=model_context_tokens(folders.ppm), limits=limits),
    )


def model_context_tokens(folder: FilePath) -> int:
    """The longest sequence that the model was made for."""
    return config_number(folder, read_config(folder), "max_position_embeddings")
