"""Reward models of other makes, told apart by their folders, and opened as PPM: here, or on a vLLM server elsewhere.

kind             here (transformers)                vLLM 0.32
standard         torch engine, or `local_prm`       --runner pooling; /classify, raw
process reward   `local_prm`                        --runner pooling; /pooling, token_classify, STEP pooling
value head       `local_prm`                        not as it is: convert it, `server.engines.prm_convert`
"""

from pathlib import Path as FilePath
from typing import assert_never

from server.engines.errors import CheckpointError
from server.engines.model_folder import VALUE_HEAD_FILE, ModelFolder, PpmKind
from server.engines.prm.heads import read_scalar_head, read_two_class_head, read_value_head
from server.engines.prm.rendering import STEP_SEPARATOR, PrmTokens, StepTextTokens
from server.engines.prm.scorer import PrmScorer
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.engines import model_context_tokens
from server.engines.remote.model import telling_tokens
from server.engines.remote.ppm import RemoteScorerEngine
from server.engines.remote.readings import RawScoreReading, StepProbabilityReading
from server.engines.rendering import PathTokens
from server.engines.torch.runtime import TorchRuntime


def local_prm(folder: FilePath, *, reads_policy_tokens: bool, runtime: TorchRuntime | None = None) -> PrmScorer:
    """A PPM of any kind, run by transformers; takes seconds. Raises `CheckpointError`.

    `reads_policy_tokens`: whether policy and PPM share a tokenizer; if not, the PPM reads the steps by their text.
    """
    kind = ModelFolder(folder).ppm_kind
    match kind:
        case PpmKind.PROCESS_REWARD:
            tokens = PrmTokens(ModelFolder(folder).file("tokenizer.json"))
            return PrmScorer(folder, tokens, read_two_class_head(folder), runtime=runtime)
        case PpmKind.VALUE_HEAD:
            rendering = _step_rendering(folder, reads_policy_tokens=reads_policy_tokens)
            return PrmScorer(folder, rendering, read_value_head(folder), runtime=runtime)
        case PpmKind.STANDARD:
            rendering = _step_rendering(folder, reads_policy_tokens=reads_policy_tokens)
            return PrmScorer(folder, rendering, read_scalar_head(folder), runtime=runtime)
        case _:
            assert_never(kind)


def remote_prm(
    address: RemoteAddress, folder: FilePath, *, reads_policy_tokens: bool, limits: RemoteLimits | None = None
) -> RemoteScorerEngine:
    """A PPM of any kind that a vLLM server serves; `folder` need hold no weights. Raises `CheckpointError`."""
    context_tokens = model_context_tokens(folder)
    kind = ModelFolder(folder).ppm_kind
    match kind:
        case PpmKind.PROCESS_REWARD:
            tokens = PrmTokens(ModelFolder(folder).file("tokenizer.json"))
            text = f"<|im_start|>assistant\n12 + 30 = 42{STEP_SEPARATOR}<|im_end|>"
            return RemoteScorerEngine(
                address,
                tokens,
                reading=StepProbabilityReading(),
                telling={text: tokens.encode_trusted(text)},
                context_tokens=context_tokens,
                limits=limits,
            )
        case PpmKind.STANDARD:
            return RemoteScorerEngine(
                address,
                _step_rendering(folder, reads_policy_tokens=reads_policy_tokens),
                reading=RawScoreReading(),
                telling=telling_tokens(ModelFolder(folder).step_tokenizer),
                context_tokens=context_tokens,
                limits=limits,
            )
        case PpmKind.VALUE_HEAD:
            raise CheckpointError(
                f"{folder}: vLLM does not read {VALUE_HEAD_FILE}; convert it by server.engines.prm_convert"
            )
        case _:
            assert_never(kind)


def _step_rendering(folder: FilePath, *, reads_policy_tokens: bool) -> PathTokens | StepTextTokens:
    tokenizer = ModelFolder(folder).step_tokenizer
    return PathTokens(tokenizer) if reads_policy_tokens else StepTextTokens(tokenizer)
