# pyright: basic
"""Training speed: transformers' Trainer, as training uses it, beside a bare loop over the same batches.

    OMP_WAIT_POLICY=passive python benchmarks/training_speed.py [--updates N] [--turns N] [--json PATH]

Both train the bundled policy by the settings of the recipe `nano`, on the same random sequences in the same batches.
The bare loop has nothing but forward and backward passes, clipping and the optimiser. The two alternate, so that other
load on the machine affects both alike. The figures are ratios of median times.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch

# Python searches `benchmarks/` first, and finds a script named like a package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.steps.report import Target, show, write
from server.bundle.folders import bundled_models
from training.models.batching import BatchLimit, Plan, planned_batches
from training.models.encoded import Example, PolicyExamples, write_policy_examples
from training.models.folders import open_policy, quiet_libraries
from training.models.objectives import PolicyObjective
from training.models.optimizer import new_optimizer
from training.models.trainer import PlannedTrainer
from training.recipe import Training, read_recipe

PROMPTS, SOLUTIONS = (40, 160), (80, 400)
"""Least and most tokens, about those of the generated problems."""
TARGETS = (
    Target(name="trainer_to_loop", words="Trainer / bare loop, time", most=1.1),
    Target(name="same_weights", words="share of the weights that end within 1e-3", least=0.99),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What both train."""

    objective: PolicyObjective
    plan: Plan
    training: Training


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="Trainer beside a bare training loop")
    parser.add_argument("--updates", type=int, default=12, help="updates per turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        figures = _measured(_setting(Path(folder), updates=arguments.updates), Path(folder), turns=arguments.turns)
    show(figures, TARGETS)
    if arguments.json is not None:
        write(arguments.json, figures)


def _setting(folder: Path, *, updates: int) -> Setting:
    training = read_recipe("nano").policy.model_copy(update={"checkpoint_s": 1e9})
    generator = np.random.default_rng(0)
    examples = []
    for _ in range(updates * training.accumulate * 16):
        prompt, solution = (int(generator.integers(*lengths)) for lengths in (PROMPTS, SOLUTIONS))
        token_ids = tuple(generator.integers(20, 900, size=prompt + solution).tolist())
        examples.append(Example(token_ids, (False,) * prompt + (True,) * solution))
    write_policy_examples(folder / "examples", examples, max_length=training.max_length)
    encoded = PolicyExamples(folder / "examples")
    plan = planned_batches(encoded.sizes(), BatchLimit(tokens=training.batch_tokens), epochs=1, seed=0)
    return Setting(PolicyObjective(encoded), plan[: updates * training.accumulate], training)


def _measured(setting: Setting, folder: Path, *, turns: int) -> dict[str, float]:
    times_s: dict[Callable, list[float]] = {_by_trainer: [], _by_loop: []}
    weights: dict[Callable, torch.Tensor] = {}
    for turn in range(turns):
        for train in sorted(times_s, key=lambda train: train.__name__, reverse=bool(turn % 2)):
            model = open_policy(bundled_models().policy)
            began_s = time.perf_counter()
            train(model, setting, folder / f"{train.__name__}{turn}")
            times_s[train].append(time.perf_counter() - began_s)
            weights[train] = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    near = torch.isclose(weights[_by_trainer], weights[_by_loop], rtol=0, atol=1e-3)
    tokens = sum(setting.objective.batch(batch)["input_ids"].numel() for batch in setting.plan)
    trainer_s, loop_s = (median(times_s[train]) for train in (_by_trainer, _by_loop))
    return {
        "tokens_per_s_trainer": tokens / trainer_s,
        "tokens_per_s_loop": tokens / loop_s,
        "trainer_to_loop": trainer_s / loop_s,
        "same_weights": float(near.float().mean()),
    }


def _by_trainer(model: torch.nn.Module, setting: Setting, work: Path) -> None:
    PlannedTrainer(model, setting.objective, setting.plan, settings=setting.training, work=work, seed=0).run()


def _by_loop(model: torch.nn.Module, setting: Setting, work: Path) -> None:
    training, objective = setting.training, setting.objective
    optimizer = new_optimizer(
        model, kind=training.optimizer, learning_rate=training.learning_rate, weight_decay=training.weight_decay
    )
    model.train()
    updates = len(setting.plan) // training.accumulate
    warmup = round(training.warmup * updates)
    for update in range(updates):
        batches = [
            objective.batch(batch) for batch in setting.plan[update * training.accumulate :][: training.accumulate]
        ]
        weight = torch.stack([batch["weight"] for batch in batches]).sum()
        for batch in batches:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=training.precision == "bfloat16"):
                loss = objective.loss(model, batch) / weight
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        share = update / warmup if update < warmup else (updates - update) / (updates - warmup)
        for group in optimizer.param_groups:
            group["lr"] = training.learning_rate * share
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main()
