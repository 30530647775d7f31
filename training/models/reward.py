# pyright: basic
"""Reward models: PPM, PQM and ORM from the policy of a round, by one trainer on three losses.

A share of the problems only measures the model; see `training.examples.splitting`.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from server.engines.model_folder import ModelFolder
from training.examples.preferences import Pair
from training.examples.splitting import is_held_out
from training.examples.values import Valued
from training.models.encoded import RewardExamples, RewardWriter
from training.models.folders import open_reward_model, quiet_libraries, save_reward_model, training_device
from training.models.job import Job, do, model_folder
from training.models.objectives import RewardKind, RewardObjective, path_scores
from training.models.policy import longest
from training.models.report import RewardReport
from training.models.trainer import trained_model
from training.recipe import Training

_TRAINING, _HELD_OUT = "training", "held_out"
_SCORED_TOGETHER = 64


def train_ppm(
    policy: Path, pairs: Iterable[Pair], settings: Training, *, work: Path, out: Path, seed: int
) -> RewardReport:
    """A process preference model; pairs of one problem should follow each other. Goes on where it was stopped."""
    job = Job(kind=RewardKind.PPM, start=policy, settings=settings, seed=seed, work=work, out=out)
    return _train(job, pairs)


def train_pqm(
    policy: Path, values: Iterable[Valued], settings: Training, *, work: Path, out: Path, seed: int
) -> RewardReport:
    """A regression of Q. Goes on where it was stopped."""
    job = Job(kind=RewardKind.PQM, start=policy, settings=settings, seed=seed, work=work, out=out)
    return _train(job, values)


def train_orm(
    policy: Path, solutions: Iterable[Valued], settings: Training, *, work: Path, out: Path, seed: int
) -> RewardReport:
    """A model of the outcome of whole solutions, whose targets are 1 and -1. Goes on where it was stopped."""
    job = Job(kind=RewardKind.ORM, start=policy, settings=settings, seed=seed, work=work, out=out)
    return _train(job, solutions)


def _train(job: Job, records: Iterable[Pair | Valued]) -> RewardReport:
    def write_examples(folder: Path) -> dict[str, int]:
        tokenizer, max_length = ModelFolder(job.start).step_tokenizer, longest(job.start, job.settings)
        training, held_out = (RewardWriter(tokenizer, max_length=max_length) for _ in range(2))
        for record in records:
            (held_out if is_held_out(record.problem_id, share=job.settings.held_out) else training).add(record)
        training.write(folder / _TRAINING)
        held_out.write(folder / _HELD_OUT)
        left_out = training.left_out + held_out.left_out
        return {"examples": len(training), "held_out": len(held_out), "left_out": left_out}

    return RewardReport.model_validate(do(job, write_examples, train_reward_model))


@quiet_libraries()
def train_reward_model(job: Job) -> None:
    """Do the job, in one of its processes."""
    examples = RewardExamples(job.examples / _TRAINING)
    objective = RewardObjective(RewardKind(job.kind), examples, auxiliary=job.settings.auxiliary)
    open_model = partial(open_reward_model, job.start, seed=job.seed)
    trained = trained_model(job, open_model, objective, examples.sizes())
    if trained is not None:
        in_order = share_in_order(trained.model, RewardExamples(job.examples / _HELD_OUT))
        with model_folder(job, {**trained.report, "in_order": in_order}) as folder:
            save_reward_model(trained.model, job.start, folder)


def share_in_order(model: PreTrainedModel, examples: RewardExamples) -> float | None:
    """See `RewardReport.in_order`. Equal scores count half."""
    score_P = np.array(_scores(model, examples))
    records = examples.records
    better, worse = score_P[records["path"]], score_P[records["worse"]]
    if len(records) and records["worse"][0] < 0:
        better, worse = better[records["target"] > 0, None], better[records["target"] <= 0]
    return float(np.mean((better > worse) + (better == worse) / 2)) if better.size and worse.size else None


def _scores(model: PreTrainedModel, examples: RewardExamples) -> list[float]:
    """Of all paths, in batches of similar lengths."""
    device = training_device()
    model.to(device).eval()  # type: ignore[arg-type]
    lengths = examples.paths.lengths
    scores = [0.0] * len(lengths)
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    for start in range(0, len(order), _SCORED_TOGETHER):
        indices = order[start : start + _SCORED_TOGETHER]
        found = path_scores(model, [examples.paths[index] for index in indices], device=device)
        for index, score in zip(indices, found, strict=True):
            scores[index] = score
    model.cpu()
    return scores
