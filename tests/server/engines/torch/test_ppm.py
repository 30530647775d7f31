"""The torch PPM: batching across searches, and precision."""

import asyncio

import pytest

from search.protocols import Path
from server.engines.torch.checkpoint import Checkpoint
from server.engines.torch.loop import ComputeThread
from server.engines.torch.model import Precision
from server.engines.torch.ppm import torch_scorer
from server.engines.torch.runtime import TorchRuntime


async def test_concurrent_scores_share_forward_passes(ppm_checkpoint: Checkpoint, runtime: TorchRuntime) -> None:
    scorer = torch_scorer(ppm_checkpoint, runtime=runtime)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(scorer.score([Path(problem=f"What is {k} + {k}?")])) for k in range(16)]
        await asyncio.sleep(0)  # all have asked before the compute thread begins
        async with scorer:
            for scores in asked:
                await scores
    assert scorer.stats.forward_passes <= 2
    assert scorer.stats.batch_size_sum == 16


async def test_bfloat16_scores_stay_close(ppm_checkpoint: Checkpoint) -> None:
    paths = [Path(problem=f"What is {k}?") for k in range(6)]
    scores: list[list[float]] = []
    for precision in Precision:
        runtime = TorchRuntime(compute=ComputeThread(threads=1), precision=precision)
        async with torch_scorer(ppm_checkpoint, runtime=runtime) as scorer:
            scores.append(list(await scorer.score(paths)))
    assert scores[0] == pytest.approx(scores[1], abs=0.05)
