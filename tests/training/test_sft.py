# pyright: basic
"""Fine-tuning lowers the loss, keeps to its schedule, and goes on where it stopped."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen2ForCausalLM

from training.policy_model import PolicyShape, new_policy
from training.sft import SFTConfig, train
from training.sft_data import Example

SHAPE = PolicyShape(vocabulary=32, hidden=64, layers=2, heads=1, key_value_heads=1, intermediate=64, context=64)
CONFIG = SFTConfig(total_tokens=6_000, batch_tokens=64, accumulate=2, learning_rate=3e-3, checkpoint_s=1e9)
EXAMPLES = [Example((first, 3, first, first), (False, False, True, True)) for first in range(4, 32)] * 8
"""Copy the first token twice."""


def policy() -> Qwen2ForCausalLM:
    return new_policy(SHAPE, seed=0, end_of_text=0)


def logged(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_loss_falls(tmp_path: Path) -> None:
    train(policy(), EXAMPLES, replace(CONFIG, total_tokens=30_000, accumulate=1), folder=tmp_path, pad_id=0)
    losses = [row["loss"] for row in logged(tmp_path)]
    assert losses[0] > 0.5
    assert losses[-1] < 0.2


def test_stopped_and_resumed_sees_the_batches_of_a_run_that_never_stopped(tmp_path: Path) -> None:
    whole, halves = policy(), policy()
    train(whole, EXAMPLES, CONFIG, folder=tmp_path / "whole", pad_id=0)

    train(halves, EXAMPLES, replace(CONFIG, total_tokens=3_000), folder=tmp_path / "halves", pad_id=0)
    state = torch.load(tmp_path / "halves" / "training.pt", weights_only=True)
    assert 0 < state["progress"][0] < CONFIG.total_tokens
    resumed = policy()
    train(resumed, EXAMPLES, CONFIG, folder=tmp_path / "halves", pad_id=0)
    ends = [torch.load(tmp_path / name / "training.pt", weights_only=True)["progress"] for name in ("whole", "halves")]
    assert ends[0] == ends[1]


def test_a_finished_run_is_not_trained_further(tmp_path: Path) -> None:
    model = policy()
    train(model, EXAMPLES, CONFIG, folder=tmp_path, pad_id=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    again = policy()
    train(again, EXAMPLES, CONFIG, folder=tmp_path, pad_id=0)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_only_targets_carry_loss() -> None:
    from training.sft import _summed_loss

    model = policy()
    ids = torch.tensor([[4, 3, 4, 4]])
    none = torch.zeros_like(ids, dtype=torch.bool)
    last = none.clone()
    last[0, 3] = True
    assert _summed_loss(model, ids, none).item() == 0.0
    logits = model(input_ids=ids).logits[0, 2]
    expected = torch.nn.functional.cross_entropy(logits[None], ids[0, 3:]).item()
    assert _summed_loss(model, ids, last).item() == pytest.approx(expected, abs=0.05)  # bfloat16
