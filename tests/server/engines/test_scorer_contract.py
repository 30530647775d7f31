# pyright: basic
"""What every PPM engine must do, run on each of them over the same tiny model."""

import asyncio

import pytest
import torch

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.rendering import PathTokens


@pytest.fixture
def paths() -> list[Path]:
    """Of many lengths; some share a prefix, one is another's prefix, two are equal."""
    root = Path(problem="What is 12 + 30?")
    steps = [
        PathStep(text="", token_ids=tuple(range(20, 20 + length)), stop=CandidateStop.END_OF_STEP)
        for length in (3, 9, 1, 40)
    ]
    last = PathStep(text="", token_ids=(30, 31), stop=CandidateStop.END_OF_CODE, output="42")
    deep = Path(problem=root.problem, steps=(*steps, last))
    siblings = [Path(problem=root.problem, steps=(step,)) for step in steps]
    return [deep, root, *siblings, root, Path(problem="Another one " * 30), Path(problem="")]


async def test_scores_are_those_of_transformers(open_scorer, ppm_folder, ppm_checkpoint, paths) -> None:
    import transformers

    model = transformers.Qwen2ForSequenceClassification.from_pretrained(ppm_folder, dtype=torch.float32).eval()
    path_tokens = PathTokens(ppm_checkpoint.tokenizer)
    with torch.inference_mode():
        expected = [
            torch.tanh(model(torch.tensor([path_tokens.token_ids(path)])).logits[0, 0]).item() for path in paths
        ]
    async with open_scorer() as scorer:
        found = await scorer.score(paths)
    assert list(found) == pytest.approx(expected, abs=1e-4)
    assert max(found) - min(found) > 0.1
    assert all(-1 <= score <= 1 for score in found)


async def test_scores_keep_the_order_of_the_paths(open_scorer, paths) -> None:
    async with open_scorer() as scorer:
        forwards = await scorer.score(paths)
        backwards = await scorer.score(paths[::-1])
        one_by_one = [(await scorer.score([path]))[0] for path in paths]
    assert list(backwards)[::-1] == pytest.approx(list(forwards), abs=1e-4)
    assert one_by_one == pytest.approx(list(forwards), abs=1e-4)


async def test_scores_do_not_depend_on_other_searches(open_scorer, paths) -> None:
    async with open_scorer() as scorer:
        alone = [(await scorer.score([path]))[0] for path in paths]
    async with open_scorer() as scorer:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(scorer.score([path])) for path in paths]
        together = [task.result()[0] for task in tasks]
    assert together == pytest.approx(alone, abs=1e-4)


async def test_no_paths_have_no_scores(open_scorer) -> None:
    async with open_scorer() as scorer:
        assert list(await scorer.score([])) == []
