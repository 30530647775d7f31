# pyright: basic
"""Few-shot prompts as tokens: the model's own chat template, without marks that a user could forge."""

import json
import shutil
from pathlib import Path as FilePath

import pytest
import transformers

from search.format import ASSISTANT, SPECIAL_TOKENS, USER, Segment
from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.errors import CheckpointError
from server.engines.fewshot.format import FewShotFormat, read_format
from server.engines.fewshot.prompt import conversation, frame_of
from server.engines.model_folder import ModelFolder
from tests.server.engines.tiny_models import CHAT_MARKS

PROBLEM = "What is 12 + 30?"
FORGED = [*SPECIAL_TOKENS, *CHAT_MARKS, "<|endoftext|>", "<s>", "</s>"]


def tokens_of(folder: FilePath) -> FewShotFormat:
    return read_format(ModelFolder(folder))


@pytest.fixture(params=["chat_folder", "plain_folder"])
def tokens(request: pytest.FixtureRequest) -> FewShotFormat:
    return tokens_of(request.getfixturevalue(request.param))


def copied(folder: FilePath, target: FilePath, **changes: object) -> FilePath:
    """With changes to the tokenizer's configuration."""
    shutil.copytree(folder, target)
    config = json.loads((target / "tokenizer_config.json").read_text())
    (target / "tokenizer_config.json").write_text(json.dumps(config | changes))
    return target


def test_the_prompt_follows_the_chat_template(chat_folder: FilePath) -> None:
    reference = transformers.AutoTokenizer.from_pretrained(chat_folder)
    expected = reference.apply_chat_template(conversation(PROBLEM), tokenize=False, add_generation_prompt=True)
    tokens = tokens_of(chat_folder)
    text = tokens.decode(tokens.token_ids(Path(problem=PROBLEM)))
    assert text == f"{expected}Let's think step by step and solve the problem with code.<code>"


def test_without_a_chat_template_the_examples_follow_one_another(plain_folder: FilePath) -> None:
    tokens = tokens_of(plain_folder)
    ids = tokens.token_ids(Path(problem=PROBLEM))
    assert ids.count(0) == 1
    assert ids[0] == 0  # what the tokenizer puts in front, once
    assert tokens.decode(ids).endswith(f"{USER}:\n{PROBLEM}\n{ASSISTANT}: Let's think step by step and solve the problem with code.<code>")  # fmt: skip # noqa: E501


@pytest.mark.parametrize("forged", [*FORGED, "".join(FORGED)])
def test_neither_problem_nor_program_can_forge_a_mark_or_a_turn(tokens: FewShotFormat, forged: str) -> None:
    def path(text: str) -> Path:
        mark = tokens.encode(Segment("<end_of_code>", is_trusted=True))
        step = PathStep(text="", token_ids=(40, *mark), stop=CandidateStop.END_OF_CODE, output=f"{text}\n{text}")
        return Path(problem=f"a {text} b", steps=(step,))

    expected, found = (tokens.token_ids(path(text)) for text in ("", forged))
    encoded = [tokens.encode(Segment(mark, is_trusted=True)) for mark in FORGED]
    specials = {ids[0] for ids in encoded if len(ids) == 1}
    assert len(specials) >= 2
    assert [token for token in found if token in specials] == [token for token in expected if token in specials]
    for mark in SPECIAL_TOKENS:
        assert tokens.decode(found).count(mark) == tokens.decode(expected).count(mark)


def test_what_users_write_is_otherwise_left_alone(tokens: FewShotFormat) -> None:
    problem = "Œuvre < answer> <b> 数学 \N{GREEK SMALL LETTER PI} 12\n\tend"
    assert problem in tokens.decode(tokens.token_ids(Path(problem=problem)))
    assert tokens.token_ids(Path(problem="a\ud800b")) == tokens.token_ids(Path(problem="a?b"))


def test_steps_keep_their_own_tokens(tokens: FewShotFormat) -> None:
    odd = (40, 41, 40)
    step = PathStep(text="not what the tokens say", token_ids=odd, stop=CandidateStop.END_OF_STEP)
    root = tokens.token_ids(Path(problem=PROBLEM))
    assert tokens.token_ids(Path(problem=PROBLEM, steps=(step, step))) == (*root, *odd, *odd)


def test_tokens_of_another_model_are_refused(tokens: FewShotFormat) -> None:
    step = PathStep(text="", token_ids=(10**6,), stop=CandidateStop.END_OF_STEP)
    with pytest.raises(ValueError, match="another model"):
        tokens.token_ids(Path(problem="p", steps=(step,)))


def test_a_turn_ends_with_every_token_that_the_folder_names(chat_folder: FilePath, plain_folder: FilePath) -> None:
    assert tokens_of(chat_folder).end_ids == {0, 2}
    assert tokens_of(plain_folder).end_ids == {1}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('only one turn') }}", "refuses a conversation"),
        ("{{ messages[0]['content'] }}", "exactly once"),
        ("{% for m in messages + messages %}{{ m['content'] }}{% endfor %}", "exactly once"),
    ],
)
def test_a_template_that_cannot_show_the_problem_is_refused(
    chat_folder: FilePath, tmp_path: FilePath, template: str, message: str
) -> None:
    folder = copied(chat_folder, tmp_path / "model", chat_template=template)
    with pytest.raises(CheckpointError, match=message):
        frame_of(folder)


def test_a_folder_without_an_end_of_turn_or_tokenizer_is_refused(plain_folder: FilePath, tmp_path: FilePath) -> None:
    frame = frame_of(plain_folder)
    folder = tmp_path / "model"
    shutil.copytree(plain_folder, folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": None}))
    with pytest.raises(CheckpointError, match="eos_token_id"):
        read_format(ModelFolder(folder), frame)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="unreadable tokenizer"):
        read_format(ModelFolder(folder), frame)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing"):
        read_format(ModelFolder(folder), frame)
