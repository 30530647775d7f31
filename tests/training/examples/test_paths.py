"""Stored paths hold texts; tokens are made from them as the policy's own were."""

import json

import pytest

from search import CandidateStop, Path, PathStep
from server.bundle.folders import bundled_models
from server.engines.rendering import PathTokens, StepTokenizer
from training.examples.paths import path_record, read_path, tokenised, without_tokens


@pytest.fixture(scope="module")
def tokenizer() -> StepTokenizer:
    return StepTokenizer(bundled_models().policy / "tokenizer.json")


def path(tokenizer: StepTokenizer) -> Path:
    """A path as a search makes it."""

    def step(text: str, stop: CandidateStop, output: str | None = None) -> PathStep:
        return PathStep(text=text, token_ids=tokenizer.encode_step(text, stop), stop=stop, output=output)

    steps = (
        step("\n# Add\ntotal = 3 + 4\n", CandidateStop.END_OF_STEP),
        step("\nprint(total)\n", CandidateStop.END_OF_CODE, output="7 <end_of_code>"),
        step("\n<answer>The answer is \\boxed{7}.", CandidateStop.END_OF_ANSWER),
    )
    return Path(problem="3 + 4 <answer>", steps=steps)


def stored(path: Path) -> Path:
    return read_path(json.loads(json.dumps(path_record(path))))


def test_a_path_comes_back_without_its_tokens(tokenizer: StepTokenizer) -> None:
    assert stored(path(tokenizer)).steps == tuple(map(without_tokens, path(tokenizer).steps))


def test_a_stored_path_is_read_by_the_models_as_it_was(tokenizer: StepTokenizer) -> None:
    assert tokenised(stored(path(tokenizer)), tokenizer) == path(tokenizer)


def test_a_path_that_was_not_tokenised_is_not_rendered(tokenizer: StepTokenizer) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        PathTokens(tokenizer).token_ids(stored(path(tokenizer)))
