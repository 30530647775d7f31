# pyright: basic
"""The scorer for reward models of other makes: any backbone of transformers, and a head on its last hidden states.

Made for small models and for machines without vLLM: nothing is cached between calls.
"""

from collections.abc import Sequence
from pathlib import Path as FilePath

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel

from server.engines.errors import CheckpointError
from server.engines.model_folder import ModelFolder
from server.engines.prm.heads import RewardHead
from server.engines.protocols import EngineStats
from server.engines.rendering import PathRendering, PathSegments, joined
from server.engines.torch.ppm import PathScorer, ScoreLoop
from server.engines.torch.runtime import TorchRuntime


def transformers_scorer(
    folder: ModelFolder, rendering: PathRendering, head: RewardHead, *, runtime: TorchRuntime | None = None
) -> PathScorer:
    """A score is what the head makes of the hidden state at a path's last token.

    Reads the backbone from the folder; takes seconds. Code that came with it is never run. Raises `CheckpointError`.
    """
    runtime = runtime or TorchRuntime()
    counters = EngineStats()
    model = _backbone(folder.path, dtype=getattr(torch, runtime.precision.value)).eval()

    def score_paths(paths: Sequence[PathSegments]) -> list[float]:
        """Score paths in one batch, padded at the end: in a causal model, no token that counts sees the padding."""
        prompts = [torch.tensor(joined(path)) for path in paths]
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True)
        mask = torch.arange(ids.shape[1]) < lengths.unsqueeze(1)
        hidden_B_S_H = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).last_hidden_state
        counters.forward_passes += 1
        counters.tokens_encoded += int(lengths.sum())
        return head(hidden_B_S_H[torch.arange(len(prompts)), lengths - 1]).tolist()

    return PathScorer(
        rendering,
        ScoreLoop(score_paths, counters, batch_tokens=lambda lengths: len(lengths) * max(lengths)),  # padded rows
        model_id=folder.model_id,
        context_tokens=int(model.config.max_position_embeddings),
        thread=runtime.compute,
    )


def _backbone(folder: FilePath, *, dtype: torch.dtype) -> PreTrainedModel:
    """The model below its heads. Raises `CheckpointError`, also where weights of it are missing."""
    try:
        # Named by its type: a published PRM maps its classes to Python files of its own, which are not to be run.
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModel.from_pretrained(
            folder, config=config, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: transformers cannot read it ({error})") from error
    if report["missing_keys"]:
        raise CheckpointError(f"{folder}: weights are missing: {sorted(report['missing_keys'])[:5]}")
    return model
