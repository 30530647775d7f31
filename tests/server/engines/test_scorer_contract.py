# pyright: basic
"""The contract of every PPM, run on each of them: first the part for fakes too, then the part for models only."""

import asyncio

import pytest
import torch

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep, PathTooLong
from server.engines.protocols import ScorerEngine
from server.engines.rendering import PathTokens

pytestmark = pytest.mark.asyncio(loop_scope="session")


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


async def test_every_path_has_a_score_from_minus_1_to_1(scorer, paths) -> None:
    scores = await scorer.score(paths)
    assert len(scores) == len(paths)
    assert all(-1 <= score <= 1 for score in scores)
    assert max(scores) - min(scores) > 0.1


async def test_scores_keep_the_order_of_the_paths(scorer, paths) -> None:
    forwards = await scorer.score(paths)
    backwards = await scorer.score(paths[::-1])
    one_by_one = [(await scorer.score([path]))[0] for path in paths]
    assert list(backwards)[::-1] == pytest.approx(list(forwards), abs=1e-4)
    assert one_by_one == pytest.approx(list(forwards), abs=1e-4)


async def test_scores_do_not_depend_on_other_searches(scorer, paths) -> None:
    alone = [(await scorer.score([path]))[0] for path in paths]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(scorer.score([path])) for path in paths]
    assert [task.result()[0] for task in tasks] == pytest.approx(alone, abs=1e-4)


async def test_no_paths_have_no_scores(scorer) -> None:
    assert list(await scorer.score([])) == []


# Only models from here on.


async def test_scores_are_those_of_transformers(scorer_engine: ScorerEngine, ppm_folder, ppm_checkpoint, paths) -> None:
    import transformers

    model = transformers.Qwen2ForSequenceClassification.from_pretrained(ppm_folder, dtype=torch.float32).eval()
    path_tokens = PathTokens(ppm_checkpoint.tokenizer)
    with torch.inference_mode():
        expected = [
            torch.tanh(model(torch.tensor([path_tokens.token_ids(path)])).logits[0, 0]).item() for path in paths
        ]
    assert list(await scorer_engine.score(paths)) == pytest.approx(expected, abs=1e-4)


async def test_a_path_longer_than_the_context_is_refused(scorer_engine: ScorerEngine) -> None:
    endless = PathStep(text="", token_ids=(99,) * scorer_engine.context_tokens, stop=CandidateStop.END_OF_STEP)
    with pytest.raises(PathTooLong):
        await scorer_engine.score([Path(problem="1 + 1"), Path(problem="1 + 1", steps=(endless,))])


async def test_a_cancelled_scoring_raises_and_the_engine_goes_on(scorer_engine: ScorerEngine, paths) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await scorer_engine.score(paths)
    assert len(await scorer_engine.score(paths)) == len(paths)


async def test_an_engine_says_what_it_serves(scorer_engine: ScorerEngine, ppm_checkpoint) -> None:
    assert scorer_engine.model_id
    assert scorer_engine.context_tokens == ppm_checkpoint.shape.context_tokens
    assert scorer_engine.fault is None
