# pyright: basic
"""Small start models with the step format's tokenizer, and solutions to learn from."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from training.models.encoded import answer_text
from training.models.policy_model import PolicyShape, start_from_scratch
from training.records import Trajectory

SHAPE = PolicyShape(vocabulary=320, hidden=32, layers=2, heads=2, key_value_heads=1, intermediate=64, context=256)


def solution(number: int) -> Trajectory:
    """One of many solutions, which differ in their numbers and lengths."""
    steps = [f"\n# Read the number\na = {number}\n", "\n# Double it\na = a + a\n", "\n# Print it\nprint(a)\n"]
    return Trajectory(
        problem_id=f"double/train/{number}",
        group="double",
        question=f"What is twice {number}?" + " Think." * (number % 3),
        steps=tuple(steps if number % 2 else [steps[0], steps[2]]),
        output=str(2 * number),
        answer=str(2 * number),
        is_right=True,
        source="test",
    )


@pytest.fixture(scope="session")
def solutions() -> Sequence[Trajectory]:
    """Of 24 problems."""
    return [solution(number) for number in range(10, 34)]


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory, solutions: Sequence[Trajectory]) -> Path:
    """The folder of an untrained Qwen2."""
    folder = tmp_path_factory.mktemp("models") / "start"
    texts = [text for one in solutions for text in (one.question, *one.steps, answer_text(one.answer))]
    start_from_scratch(folder, texts, SHAPE, seed=0)
    return folder


@pytest.fixture(scope="session")
def llama_start(tmp_path_factory: pytest.TempPathFactory, start: Path) -> Path:
    """The folder of an untrained Llama with the same tokenizer, whose head is not tied to its embedding."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.models.folders import save_policy

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=SHAPE.context,
        bos_token_id=None,
        eos_token_id=0,
    )
    folder = tmp_path_factory.mktemp("models") / "llama"
    folder.mkdir()
    save_policy(LlamaForCausalLM(config), start, folder)
    return folder
