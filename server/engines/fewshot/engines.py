"""Instruct policies, opened from a model folder: run here by transformers, or by a vLLM server elsewhere."""

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath

from search.format import SPECIAL_TOKENS, Segment
from server.engines.fewshot.chat import frame_of
from server.engines.fewshot.policy import InstructPolicyEngine
from server.engines.fewshot.tokens import InstructTokens, read_tokens
from server.engines.fewshot.transformers_completer import TransformersCompleter
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.completer import RemoteCompleter
from server.engines.remote.engines import model_context_tokens
from server.engines.torch.runtime import TorchRuntime

_TELLING_TEXT = "\n# Add 12 and 30\ntotal = 12 + 30\n" + "".join(SPECIAL_TOKENS)


def local_instruct_policy(folder: FilePath, *, runtime: TorchRuntime | None = None) -> InstructPolicyEngine:
    """Reads the folder; takes seconds. Raises `CheckpointError`."""
    tokens = read_tokens(folder, frame_of(folder))
    return InstructPolicyEngine(TransformersCompleter(folder, tokens, runtime=runtime), tokens)


def remote_instruct_policy(
    address: RemoteAddress, folder: FilePath, *, limits: RemoteLimits | None = None
) -> InstructPolicyEngine:
    """`folder` need hold no weights, only configuration and tokenizer of the model served. Raises `CheckpointError`."""
    tokens = read_tokens(folder, frame_of(folder))
    completer = RemoteCompleter(
        address,
        context_tokens=model_context_tokens(folder),
        telling=_telling_tokens(tokens),
        limits=limits,
    )
    return InstructPolicyEngine(completer, tokens)


def _telling_tokens(tokens: InstructTokens) -> Mapping[str, Sequence[int]]:
    """Those that end a turn are among them."""
    ids = (*tokens.encode(Segment(_TELLING_TEXT, is_trusted=True)), *sorted(tokens.end_ids))
    return {tokens.decode(ids): ids}
