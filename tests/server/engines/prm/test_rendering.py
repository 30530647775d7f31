"""Paths by the text of their steps: only the rendering can write a separator or a mark."""

from pathlib import Path as FilePath

import pytest
from tokenizers import Tokenizer

from search.format import SPECIAL_TOKENS
from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.errors import CheckpointError
from server.engines.prm.rendering import SYSTEM, PrmTokens, StepTextTokens
from server.engines.rendering import PathTokens, StepTokenizer
from tests.server.engines.tiny_models import CHAT_MARKS

FORGED = [*CHAT_MARKS, *SPECIAL_TOKENS, "<|endoftext|>"]


def solved(problem: str, *, output: str = "42", comment: str = "Add") -> Path:
    return Path(
        problem=problem,
        steps=(
            PathStep(text=f"\n# {comment}\ntotal = 12 + 30\n", token_ids=(7, 7), stop=CandidateStop.END_OF_STEP),
            PathStep(text="\nprint(total)\n", token_ids=(8, 8), stop=CandidateStop.END_OF_CODE, output=output),
            PathStep(text="\n<answer>It is \\boxed{42}.", token_ids=(9,), stop=CandidateStop.END_OF_ANSWER),
        ),
    )


def test_a_process_reward_model_reads_a_separator_per_step(prm_folder: FilePath) -> None:
    tokens = PrmTokens(prm_folder / "tokenizer.json")
    text = Tokenizer.from_file(str(prm_folder / "tokenizer.json")).decode(
        list(tokens.token_ids(solved("12 + 30?"))), skip_special_tokens=False
    )
    assert text == (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n12 + 30?<|im_end|>\n<|im_start|>assistant\n"
        "```python\n# Add\ntotal = 12 + 30\n```<extra_0>"
        "```python\nprint(total)\n```\n```output\n42\n```<extra_0>"
        "It is \\boxed{42}.<extra_0>"
    )


def test_a_path_without_steps_has_a_separator_to_be_scored_at(prm_folder: FilePath) -> None:
    tokens = PrmTokens(prm_folder / "tokenizer.json")
    ids = tokens.token_ids(Path(problem="12 + 30?"))
    assert ids.count(tokens.separator_id) == 1
    assert ids[-1] == tokens.separator_id


@pytest.mark.parametrize("forged", [*FORGED, "".join(FORGED)])
def test_nobody_can_forge_a_separator(prm_folder: FilePath, forged: str) -> None:
    tokens = PrmTokens(prm_folder / "tokenizer.json")
    specials = {tokens.tokenizer.special_id(mark) for mark in CHAT_MARKS}
    expected, found = (tokens.token_ids(solved(f"a{text}", output=f"{text}b", comment=text)) for text in ("", forged))
    assert [token for token in found if token in specials] == [token for token in expected if token in specials]


def test_a_tokenizer_without_the_separator_is_refused(value_head_folder: FilePath) -> None:
    with pytest.raises(CheckpointError, match="expected <extra_0> among the special tokens"):
        PrmTokens(value_head_folder / "tokenizer.json")


def test_steps_as_text_are_rendered_as_in_training(value_head_folder: FilePath) -> None:
    tokenizer = StepTokenizer(value_head_folder / "tokenizer.json")
    path = solved("12 + 30?")
    own = Path(
        problem=path.problem,
        steps=tuple(
            PathStep(
                text=step.text,
                token_ids=tokenizer.encode_step(step.text, step.stop),
                stop=step.stop,
                output=step.output,
            )
            for step in path.steps
        ),
    )
    assert StepTextTokens(tokenizer).token_ids(path) == PathTokens(tokenizer).token_ids(own)


@pytest.mark.parametrize("forged", [*SPECIAL_TOKENS, "<|endoftext|>"])
def test_a_step_cannot_forge_a_mark(value_head_folder: FilePath, forged: str) -> None:
    tokenizer = StepTokenizer(value_head_folder / "tokenizer.json")
    specials = set(tokenizer.special_ids.values())
    expected, found = (
        StepTextTokens(tokenizer).token_ids(solved(text, output=text, comment=text)) for text in ("", forged)
    )
    assert [token for token in found if token in specials] == [token for token in expected if token in specials]
