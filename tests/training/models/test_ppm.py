# pyright: basic
"""The PPM learns the better of two paths; training and serving score by the same rule."""

from pathlib import Path

import pytest
import torch

from training.models.folders import save_for_serving
from training.models.policy_model import PolicyShape, new_policy
from training.models.ppm import (
    EncodedPair,
    PPMConfig,
    accuracy,
    new_ppm,
    preference_loss,
    scores,
    train_ppm,
)

pytestmark = pytest.mark.usefixtures("single_thread")

SHAPE = PolicyShape(vocabulary=64, hidden=64, layers=2, heads=1, key_value_heads=1, intermediate=64, context=64)


@pytest.fixture(scope="module")
def policy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("policy")
    save_for_serving(new_policy(SHAPE, seed=0, end_of_text=0), folder)
    return folder


def token_pairs(count: int, *, seed: int) -> list[EncodedPair]:
    """Paths of random tokens; the better one holds token 9 where the worse one holds token 10."""
    generator = torch.Generator().manual_seed(seed)
    found: list[EncodedPair] = []
    for index in range(count):
        noise = torch.randint(11, 64, (6,), generator=generator).tolist()
        better, worse = (*noise[:3], 9, *noise[3:]), (*noise[:3], 10, *noise[3:])
        found.append(EncodedPair(better, worse, 1.0, f"problem {index}"))
    return found


def test_loss_is_the_bradley_terry_loss_averaged_by_weight() -> None:
    better, worse = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 0.0])
    # -log sigmoid(2) = 0.126928, -log sigmoid(0) = 0.693147; weights 1 and 3.
    loss = preference_loss(better, worse, torch.tensor([1.0, 3.0]))
    assert loss.item() == pytest.approx((0.126928 + 3 * 0.693147) / 4, abs=1e-5)


def test_training_puts_unseen_pairs_in_order(policy_folder: Path, tmp_path: Path) -> None:
    model = new_ppm(policy_folder, seed=0)
    unseen = token_pairs(100, seed=1)
    train_ppm(model, token_pairs(600, seed=2), PPMConfig(learning_rate=2e-3), log=tmp_path / "log.jsonl")
    assert accuracy(model, unseen) > 0.9


def test_scores_do_not_depend_on_the_batch_and_lie_in_range(policy_folder: Path) -> None:
    model = new_ppm(policy_folder, seed=0)
    paths = [tuple(range(1, length)) for length in (3, 9, 30)]
    with torch.inference_mode():
        together = scores(model, paths)
        alone = torch.cat([scores(model, [path]) for path in paths])
    assert torch.allclose(together, alone, atol=0.02)  # bfloat16
    assert together.abs().max() <= 1
