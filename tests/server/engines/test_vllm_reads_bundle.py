# pyright: basic, reportMissingImports=false
"""vLLM serves the bundled models unchanged: same greedy steps, same scores as the torch engine. On the CPU."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from search import CandidateStop
from search import Path as SearchPath
from search.protocols import PathStep

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300)]

PROBLEMS = (
    "Find the Greatest Common Divisor (GCD) of these numbers: 275, 90. Give only the GCD as your final answer.",
    "Determine the value of y that satisfies: 85 - 83*y = -6389",
    "Solve the following multiplication: 189 * 887. Give only the result as your final answer.",
)
MAX_STEP_TOKENS = 64


@contextmanager
def vllm_engine(folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[Any]:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_NO_USAGE_STATS", "1")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "WARNING")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from vllm import LLM

    llm = LLM(
        model=str(folder),
        max_model_len=512,
        max_num_batched_tokens=512,
        enable_chunked_prefill=False,  # a request seed in a chunked prefill kills the engine on the CPU
        enforce_eager=True,  # compiling would need a C++ compiler, and longer than the test
        block_size=32,
        max_num_seqs=4,
        disable_log_stats=True,
        **options,
    )
    try:
        yield llm
    finally:
        llm.llm_engine.engine_core.shutdown()


async def torch_steps(folder: Path) -> list[PathStep]:
    from server.engines.checkpoint import load_policy
    from server.engines.torch_policy import TorchPolicy

    async with TorchPolicy(load_policy(folder), temperature=0.0, top_p=1.0, max_step_tokens=MAX_STEP_TOKENS) as policy:
        found = [(await policy.propose(SearchPath(problem=problem), 1, seed=1))[0] for problem in PROBLEMS]
    return [PathStep(text=one.text, token_ids=tuple(one.token_ids), stop=one.stop) for one in found]


async def test_the_policy_writes_the_same_steps_on_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import SamplingParams

    from server.bundle.folders import bundled_models
    from server.engines.checkpoint import load_policy
    from server.engines.rendering import PathTokens

    folder = bundled_models().policy
    steps = await torch_steps(folder)
    assert all(step.stop is CandidateStop.END_OF_STEP for step in steps)
    tokenizer = load_policy(folder).tokenizer
    prompts = [{"prompt_token_ids": list(PathTokens(tokenizer).token_ids(SearchPath(problem=p)))} for p in PROBLEMS]
    greedy = SamplingParams(temperature=0.0, max_tokens=MAX_STEP_TOKENS, stop_token_ids=list(tokenizer.stops), seed=1)
    with vllm_engine(folder, monkeypatch, dtype="bfloat16") as llm:
        outputs = [request.outputs[0] for request in llm.generate(prompts, greedy, use_tqdm=False)]
    assert [tuple(output.token_ids) for output in outputs] == [step.token_ids for step in steps]
    assert [output.stop_reason for output in outputs] == [step.token_ids[-1] for step in steps]


async def test_the_ppm_gives_the_same_scores_on_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm import PoolingParams

    from server.bundle.folders import bundled_models
    from server.engines.checkpoint import load_ppm
    from server.engines.torch_ppm import TorchScorer

    models = bundled_models()
    steps = await torch_steps(models.policy)
    paths = [SearchPath(problem=problem, steps=(step,)) for problem, step in zip(PROBLEMS, steps, strict=True)]
    async with TorchScorer(load_ppm(models.ppm)) as scorer:
        ours = await scorer.score(paths)
        prompts = [{"prompt_token_ids": list(scorer.path_tokens.token_ids(path))} for path in paths]
    raw = PoolingParams(task="classify", use_activation=False)
    with vllm_engine(models.ppm, monkeypatch, dtype="float32", runner="pooling") as llm:
        outputs = llm.encode(prompts, pooling_params=raw, pooling_task="classify", use_tqdm=False)
    theirs = [math.tanh(float(output.outputs.data)) for output in outputs]
    assert theirs == pytest.approx(ours, abs=0.01)
