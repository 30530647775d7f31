"""torch and vLLM on the bundled models: the same greedy steps, the same scores."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import pairwise

import pytest
import pytest_asyncio

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep, Policy
from server.bundle.folders import bundled_models
from server.engines.protocols import Engines, Sampling
from server.engines.self_check import TOLERANCE, check_scores

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]

GREEDY = Sampling(temperature=0.0, max_step_tokens=128)
MAX_STEPS = 5

PROBLEMS = (
    "Find the Greatest Common Divisor (GCD) of these numbers: 275, 90. Give only the GCD as your final answer.",
    "Find the Greatest Common Divisor (GCD) of these numbers: 816, 612. Give only the GCD as your final answer.",
    "Find the Least Common Multiple (LCM) of these numbers: 24, 36",
    "Determine the value of y that satisfies: 85 - 83*y = -6389",
    "Determine the value of h that satisfies: 132 - 44*h = -2420",
    "Solve for k: 17*k + 12 = 233",
    "Solve the following multiplication: 189 * 887. Give only the result as your final answer.",
    "Solve the following multiplication: 42 * 5178. Give only the result as your final answer.",
    "State the final answer to the following arithmetic problem: 6 + 97 - 12 =",
    "How many legs are there in total if you have 3 dogs and 7 ducks?",
    "What is the sum of the digits of 98127?",
    "If it is 14:35 now, what time will it be in 95 minutes?",
)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def both() -> AsyncIterator[dict[str, Engines]]:
    """torch in float32; vLLM as it is served, the policy in its own bfloat16 and the PPM in float32."""
    from server.engines.choice import EngineOptions, make_engines
    from server.engines.vllm.arguments import VllmOptions
    from server.engines.vllm.memory import MemoryShare

    policy = MemoryShare(gpu_fraction=0.3, cpu_bytes=200_000_000)
    options = VllmOptions(policy=policy, ppm=replace(policy, dtype="float32"))
    engines = {
        "torch": make_engines(bundled_models(), EngineOptions(backend="torch")),
        "vllm": make_engines(bundled_models(), EngineOptions(backend="vllm", vllm=options)),
    }
    async with AsyncExitStack() as stack:
        for pair in engines.values():
            await stack.enter_async_context(pair.policy)
            await stack.enter_async_context(pair.ppm)
        yield engines


async def walk(policy: Policy, problem: str) -> list[Path]:
    """The paths from the problem down a greedy trajectory. What a program prints does not matter here."""
    paths = [Path(problem=problem)]
    while len(paths) <= MAX_STEPS:
        (candidate,) = await policy.propose(paths[-1], 1, seed=0)
        output = "42" if candidate.stop is CandidateStop.END_OF_CODE else None
        step = PathStep(text=candidate.text, token_ids=candidate.token_ids, stop=candidate.stop, output=output)
        paths.append(Path(problem=problem, steps=(*paths[-1].steps, step)))
        if candidate.stop in {CandidateStop.END_OF_ANSWER, CandidateStop.LENGTH}:
            break
    return paths


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def walks(both: dict[str, Engines]) -> list[list[Path]]:
    """As torch goes."""
    return [await walk(both["torch"].policy.policy(GREEDY), problem) for problem in PROBLEMS]


async def test_greedy_steps_are_the_same(both: dict[str, Engines], walks: list[list[Path]]) -> None:
    policy = both["vllm"].policy.policy(GREEDY)
    pairs = [(before, after.steps[-1]) for paths in walks for before, after in pairwise(paths)]
    found = [(await policy.propose(before, 1, seed=1))[0].token_ids for before, _ in pairs]
    same = sum(token_ids == step.token_ids for token_ids, (_, step) in zip(found, pairs, strict=True))
    assert len(pairs) >= 40
    assert same / len(pairs) >= 0.95


async def test_scores_are_the_same(both: dict[str, Engines], walks: list[list[Path]]) -> None:
    paths = [path for one in walks for path in one]
    ours, theirs = await both["torch"].ppm.score(paths), await both["vllm"].ppm.score(paths)
    assert list(theirs) == pytest.approx(list(ours), abs=TOLERANCE)
    assert max(ours) - min(ours) > 0.5


@pytest.mark.parametrize("kind", ["torch", "vllm"])
async def test_the_bundled_ppm_passes_its_self_check(both: dict[str, Engines], kind: str) -> None:
    await check_scores(both[kind].ppm, bundled_models().ppm)
