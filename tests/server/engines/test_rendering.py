# pyright: basic
"""Rendering: text from users and programs never becomes a special token."""

from pathlib import Path as FilePath

import pytest

from search.format import SPECIAL_TOKENS
from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.rendering import END_OF_TEXT, PathTokens, StepTokenizer
from server.engines.torch.checkpoint import Checkpoint

ALL_SPECIAL = (*SPECIAL_TOKENS, END_OF_TEXT)


@pytest.fixture
def tokenizer(policy_checkpoint: Checkpoint) -> StepTokenizer:
    return policy_checkpoint.tokenizer


def names(tokenizer: StepTokenizer, ids: tuple[int, ...]) -> list[str]:
    by_id = {token_id: name for name, token_id in tokenizer.special_ids.items()}
    return [by_id[token] for token in ids if token in by_id]


@pytest.mark.parametrize("token", [*ALL_SPECIAL, "".join(ALL_SPECIAL), f"a{END_OF_TEXT}b"])
def test_a_problem_cannot_forge_a_special_token(tokenizer: StepTokenizer, token: str) -> None:
    ids = PathTokens(tokenizer).token_ids(Path(problem=f"1 {token} 2{token}"))
    assert names(tokenizer, ids) == ["<|user|>", "<|assistant|>", "<code>"]


@pytest.mark.parametrize("token", [*ALL_SPECIAL, "".join(ALL_SPECIAL)])
def test_a_program_cannot_forge_a_special_token(tokenizer: StepTokenizer, token: str) -> None:
    stop = tokenizer.special_ids["<end_of_code>"]
    step = PathStep(text="", token_ids=(50, stop), stop=CandidateStop.END_OF_CODE, output=f"{token}\n{token}")
    _, ids = PathTokens(tokenizer).segments(Path(problem="p", steps=(step,)))
    assert names(tokenizer, ids) == ["<end_of_code>", "<output>", "<end_of_output>"]


def test_a_special_token_split_by_the_problem_stays_plain(tokenizer: StepTokenizer) -> None:
    ids = PathTokens(tokenizer).token_ids(Path(problem="|user|>"))
    assert names(tokenizer, ids).count("<|user|>") == 1


def test_untrusted_text_reads_back_as_written(tokenizer: StepTokenizer) -> None:
    problem = "Œuvre <end_of_code> 数学 \N{GREEK SMALL LETTER PI} 12\n\tend"
    ids = PathTokens(tokenizer).token_ids(Path(problem=problem))
    assert problem in tokenizer.decode_step(ids)


def test_half_a_surrogate_pair_becomes_a_question_mark(tokenizer: StepTokenizer) -> None:
    path_tokens = PathTokens(tokenizer)
    assert path_tokens.token_ids(Path(problem="a\ud800b")) == path_tokens.token_ids(Path(problem="a?b"))


def test_steps_keep_their_own_tokens(tokenizer: StepTokenizer) -> None:
    odd = (50, 51, 50, tokenizer.special_ids["<end_of_step>"])
    step = PathStep(text="not what the tokens say", token_ids=odd, stop=CandidateStop.END_OF_STEP)
    assert PathTokens(tokenizer).segments(Path(problem="p", steps=(step, step)))[1:] == (odd, odd)


def test_tokens_of_another_model_are_refused(tokenizer: StepTokenizer) -> None:
    step = PathStep(text="", token_ids=(10**6,), stop=CandidateStop.END_OF_STEP)
    with pytest.raises(ValueError, match="another model"):
        PathTokens(tokenizer).segments(Path(problem="p", steps=(step,)))


@pytest.mark.parametrize("end", ["<end_of_step>", "<end_of_code>", "<end_of_answer>", END_OF_TEXT])
def test_a_step_is_read_without_its_stop_token(tokenizer: StepTokenizer, end: str) -> None:
    ids = (tokenizer.special_ids["<answer>"], 60, 61, tokenizer.special_ids[end])
    assert tokenizer.decode_step(ids) == tokenizer.decode_step(ids[:-1])
    assert tokenizer.decode_step(ids).startswith("<answer>")


def test_transformers_renders_the_same_tokens(policy_folder: FilePath, tokenizer: StepTokenizer) -> None:
    from transformers import PreTrainedTokenizerFast

    reference = PreTrainedTokenizerFast(tokenizer_file=str(policy_folder / "tokenizer.json"))
    problem = "Is <answer> 12?"
    expected = [
        *reference("<|user|>:\n", add_special_tokens=False).input_ids,
        *reference(problem, add_special_tokens=False, split_special_tokens=True).input_ids,
        *reference(
            "\n<|assistant|>: Let's think step by step and solve the problem with code.<code>", add_special_tokens=False
        ).input_ids,
    ]
    assert list(PathTokens(tokenizer).token_ids(Path(problem=problem))) == expected
