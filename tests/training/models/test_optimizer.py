# pyright: basic
"""Muon and AdamW work as one optimiser: each updates its own parameters, one schedule and one checkpoint hold both."""

import torch
from torch import nn

from training.models.optimizer import new_optimizer


class Small(nn.Module):
    """A hidden matrix, a bias, an embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 4)
        self.embed = nn.Embedding(5, 4)

    def loss(self) -> torch.Tensor:
        return self.layer(self.embed.weight).square().sum()


def updated(model: Small, optimizer: torch.optim.Optimizer, updates: int) -> dict[str, torch.Tensor]:
    for _ in range(updates):
        model.loss().backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def test_muon_alone_updates_the_hidden_matrices() -> None:
    model, reference = Small(), Small()
    after = updated(model, new_optimizer(model, kind="muon", learning_rate=0.1, weight_decay=0.1), 3)
    muon = torch.optim.Muon([reference.layer.weight], lr=0.1, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(
        [reference.embed.weight, reference.layer.bias], lr=0.1, betas=(0.9, 0.95), weight_decay=0.0
    )
    for _ in range(3):
        reference.loss().backward()
        for part in (muon, adamw):
            part.step()
            part.zero_grad()
    for name, weight in reference.state_dict().items():
        assert torch.equal(after[name], weight), name


def test_a_schedule_reaches_both_parts() -> None:
    model = Small()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    optimizer = new_optimizer(model, kind="muon", learning_rate=0.1, weight_decay=0.0)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 0.0)
    after = updated(model, optimizer, 2)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_loaded_state_continues_as_if_never_saved() -> None:
    whole, first, second = Small(), Small(), Small()
    expected = updated(whole, new_optimizer(whole, kind="muon", learning_rate=0.1, weight_decay=0.1), 4)
    optimizer = new_optimizer(first, kind="muon", learning_rate=0.1, weight_decay=0.1)
    second.load_state_dict(updated(first, optimizer, 2))
    continued = new_optimizer(second, kind="muon", learning_rate=0.1, weight_decay=0.1)
    continued.load_state_dict(optimizer.state_dict())
    found = updated(second, continued, 2)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_frozen_parameters_are_no_part_of_the_optimizer() -> None:
    model = Small()
    model.layer.weight.requires_grad_(False)
    optimizer = new_optimizer(model, kind="adamw", learning_rate=0.1, weight_decay=0.1)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
