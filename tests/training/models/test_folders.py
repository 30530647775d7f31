# pyright: basic
"""Reward models start as the policy with a new head; adapters merge; saved models are served as they were trained."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from search.format import SPECIAL_TOKENS
from server.engines.model_folder import ModelFolder, PpmKind
from server.engines.self_check import check_scores
from server.engines.torch.checkpoint import load_policy, load_ppm
from server.engines.torch.ppm import torch_scorer
from training.models.folders import (
    merged,
    open_policy,
    open_reward_model,
    save_policy,
    save_reward_model,
    with_adapters,
)
from training.models.objectives import path_scores
from training.recipe import Lora

pytestmark = pytest.mark.usefixtures("single_thread")

LORA = Lora(rank=2, alpha=4)


@pytest.fixture(params=["start", "llama_start"])
def policy(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def moved(model: torch.nn.Module) -> torch.nn.Module:
    """The model with all that is trained moved at random."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def trained(model: torch.nn.Module) -> PreTrainedModel:
    """What a training leaves."""
    return merged(model, moved(model).state_dict())


def test_a_reward_model_is_the_policy_with_a_new_small_head(policy: Path) -> None:
    model, body = open_reward_model(policy, seed=3), open_policy(policy).state_dict()
    weights = model.state_dict()
    head = weights.pop("score.weight")
    assert all(torch.equal(weight, body[name]) for name, weight in weights.items())
    assert head.shape == (1, model.config.hidden_size)
    assert 0.005 < head.std().item() < 0.05
    assert torch.equal(head, open_reward_model(policy, seed=3).state_dict()["score.weight"])
    assert not torch.equal(head, open_reward_model(policy, seed=4).state_dict()["score.weight"])


def test_training_and_inference_see_the_same_head(policy: Path) -> None:
    model = open_reward_model(policy, seed=0)
    ids = torch.arange(20, 40)[None]
    assert torch.equal(model.train()(input_ids=ids).logits, model.eval()(input_ids=ids).logits)


def test_a_saved_reward_model_scores_as_it_was_trained(policy: Path, tmp_path: Path) -> None:
    model = trained(open_reward_model(policy, seed=0))
    save_reward_model(model, policy, tmp_path)
    path = np.arange(20, 45, dtype=np.int32)
    expected = path_scores(model.float(), [path], device=torch.device("cpu"))[0]
    served = AutoModelForSequenceClassification.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.tanh(served(torch.from_numpy(path)[None].long()).logits).item() == pytest.approx(expected, abs=1e-4)
    assert abs(expected) > 0.01


def test_a_saved_reward_model_is_a_standard_ppm(policy: Path, tmp_path: Path) -> None:
    save_reward_model(open_reward_model(policy, seed=0), policy, tmp_path)
    folder = ModelFolder(tmp_path)
    folder.check_single_label()
    assert folder.ppm_kind is PpmKind.STANDARD
    assert len(json.loads((tmp_path / "self_check.json").read_text())["scores"]) == 12


async def test_the_torch_engine_gives_the_scores_noted(start: Path, tmp_path: Path) -> None:
    save_reward_model(trained(open_reward_model(start, seed=0)), start, tmp_path)
    async with torch_scorer(load_ppm(tmp_path)) as scorer:
        await check_scores(scorer, tmp_path)


def test_merged_adapters_compute_what_was_trained(policy: Path, tmp_path: Path) -> None:
    model = moved(with_adapters(open_policy(policy), LORA, folder=policy, seed=0))
    ids = torch.arange(20, 40)[None]
    expected = model.eval()(input_ids=ids).logits
    whole = merged(with_adapters(open_policy(policy), LORA, folder=policy, seed=0), model.state_dict())
    save_policy(whole, policy, tmp_path)
    found = open_policy(tmp_path).eval()
    assert found.state_dict().keys() == open_policy(policy).state_dict().keys()
    assert torch.allclose(found(input_ids=ids).logits, expected, atol=0.02)  # bfloat16
    assert not torch.allclose(open_policy(policy)(input_ids=ids).logits, expected, atol=0.1)


def test_adapters_train_the_step_format_s_tokens_and_no_other(start: Path) -> None:
    name = "model.embed_tokens.weight"
    before = open_policy(start).state_dict()[name]
    after = trained(with_adapters(open_policy(start), LORA, folder=start, seed=0)).state_dict()[name]
    changed = (after - before).abs().amax(dim=1) > 0.01
    special = ModelFolder(start).step_tokenizer.special_ids
    assert set(changed.nonzero().flatten().tolist()) == {special[token] for token in SPECIAL_TOKENS}


def test_adapters_of_a_reward_model_train_its_head(start: Path) -> None:
    model = with_adapters(open_reward_model(start, seed=0), LORA, folder=start, seed=0)
    learning = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert any("score" in name for name in learning)
    assert not any(name.endswith("base_layer.weight") for name in learning)


def test_a_saved_policy_is_served_by_the_torch_engine(start: Path, tmp_path: Path) -> None:
    model = open_policy(start)
    save_policy(merged(model, model.state_dict()), start, tmp_path)
    assert load_policy(tmp_path).model_id.endswith(load_policy(start).model_id.partition("@")[2])
