# pyright: basic
"""The trainer: runs a plan of batches through transformers' Trainer and accelerate, in one process or in many.

It knows nothing of what is learnt: an `Objective` makes the batches and sums their loss, which is divided by the weight
of all batches of the update. It checkpoints by the clock and goes on from the last complete checkpoint. The batches
that are left are the same, so that on the same threads the result is that of an unbroken run.
"""

import itertools
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import torch
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from training.models.batching import BatchLimit, Plan, Size, planned_batches
from training.models.folders import merged, with_adapters
from training.models.job import Job
from training.models.optimizer import new_optimizer
from training.recipe import Training
from training.records import read_records, write_records

LOG = "log.jsonl"
LOG_EVERY_S = 5.0
"""Seconds between lines of the log: few enough to keep, many enough to plot a short run."""

_CHECKPOINTS = "checkpoint-*"
_COMPLETE = "complete"
"""A file in a checkpoint, written last."""

Batch: TypeAlias = dict[str, Tensor]


class TrainingDiverged(Exception):
    """The loss is not a number any more; the message says what to change."""


class Objective(Protocol):
    """What is learnt."""

    def batch(self, examples: Sequence[int]) -> Batch:
        """The tensors of one forward pass; under `weight` what the sum of its loss is to be divided by."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss, summed by weight."""
        ...


class PlannedTrainer(Trainer):
    """Trains a model by a plan, in place."""

    def __init__(
        self, model: nn.Module, objective: Objective, plan: Plan, *, settings: Training, work: Path, seed: int
    ) -> None:
        self._objective, self._settings, self._work = objective, settings, work
        super().__init__(
            model=model,  # type: ignore[arg-type]
            args=_arguments(settings, len(plan), work, seed=seed),
            train_dataset=_PlannedBatches(objective, plan),
            data_collator=_only_item,
        )
        self.loss_is_scaled_for_ga = True
        self.remove_callback(PrinterCallback)
        self.add_callback(_Clock(self, work / LOG, checkpoint_s=settings.checkpoint_s))

    def run(self) -> None:
        """Train to the end, from the last complete checkpoint if there is one."""
        checkpoint = _last_complete(self._work, clean=self.is_world_process_zero())
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """See `new_optimizer`."""
        if self.optimizer is None:
            self.optimizer = new_optimizer(
                model if model is not None else self.model,  # type: ignore[arg-type]
                kind=self._settings.optimizer,
                learning_rate=self._settings.learning_rate,
                weight_decay=self._settings.weight_decay,
            )
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], Tensor]:
        """The batches of an update, and their weight over all processes."""
        batches = list(itertools.islice(epoch_iterator, num_batches))
        weight = torch.stack([batch["weight"] for batch in batches]).sum().to(device)
        return batches, self.accelerator.gather(weight).sum()  # type: ignore[union-attr]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  # transformers' signature
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """The batch's part of the update's loss. Processes average their gradients, hence the factor."""
        assert num_items_in_batch is not None
        return self._objective.loss(model, inputs) * self.accelerator.num_processes / num_items_in_batch


class _PlannedBatches(Dataset[Batch]):
    """A batch per item."""

    def __init__(self, objective: Objective, plan: Plan) -> None:
        self._objective, self._plan = objective, plan

    def __len__(self) -> int:
        return len(self._plan)

    def __getitem__(self, index: int) -> Batch:
        return self._objective.batch(self._plan[index])


def _only_item(items: Sequence[Batch]) -> Batch:
    return items[0]


def _arguments(settings: Training, batches: int, work: Path, *, seed: int) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        seed=seed,
        use_cpu=not torch.cuda.is_available(),
        bf16=settings.precision == "bfloat16",
        per_device_train_batch_size=1,
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        max_grad_norm=1.0,
        gradient_checkpointing=settings.recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        include_num_input_tokens_seen="all",
        # The clock decides when to save and to log.
        save_strategy="no",
        save_total_limit=2,  # the last may be incomplete
        logging_strategy="no",
        logging_nan_inf_filter=False,
        report_to="none",
        disable_tqdm=True,
    )
    processes = arguments.world_size
    if settings.accumulate % processes:
        raise ValueError(f"accumulate is {settings.accumulate}; expected a multiple of the {processes} processes")
    arguments.gradient_accumulation_steps = settings.accumulate // processes
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001  # else it splits each batch over all that it sees
    updates = math.ceil(math.ceil(batches / processes) / arguments.gradient_accumulation_steps)
    arguments.warmup_steps = round(settings.warmup * updates)
    if settings.schedule == "trapezoid":
        decay = min(updates - arguments.warmup_steps, round(settings.decay * updates))
        arguments.lr_scheduler_type = "warmup_stable_decay"
        arguments.lr_scheduler_kwargs = {"num_decay_steps": decay, "decay_type": "linear"}
    else:
        arguments.lr_scheduler_type = settings.schedule
    return arguments


class _Clock(TrainerCallback):
    """Logs and checkpoints by the clock of the main process."""

    def __init__(self, trainer: PlannedTrainer, log: Path, *, checkpoint_s: float) -> None:
        self._trainer, self._log, self._checkpoint_s = trainer, log, checkpoint_s
        self._saved_s = self._logged_s = self._started_s = time.monotonic()
        self._earlier_s = 0.0
        self._first = self._logged_tokens = 0

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Forget what was logged after the checkpoint."""
        self._saved_s = self._logged_s = self._started_s = time.monotonic()
        self._first, self._logged_tokens = state.global_step, state.num_input_tokens_seen
        if state.is_world_process_zero:
            rows = list(read_records(self._log)) if self._log.exists() else []
            kept = [row for row in rows if row["update"] <= state.global_step]
            self._earlier_s = kept[-1]["s"] if kept else 0.0
            write_records(self._log, kept)

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Decide for all processes alike."""
        now_s = time.monotonic()
        is_last = state.global_step >= state.max_steps
        due = [now_s - self._logged_s > LOG_EVERY_S or is_last, now_s - self._saved_s > self._checkpoint_s]
        if args.world_size > 1:
            due = broadcast(torch.tensor(due, device=args.device)).tolist()  # type: ignore[union-attr]
        control.should_log, control.should_save = due

    def on_save(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as complete."""
        self._trainer.accelerator.wait_for_everyone()
        self._saved_s = time.monotonic()
        if state.is_world_process_zero:
            (self._log.parent / f"checkpoint-{state.global_step}" / _COMPLETE).touch()

    def on_log(self, args: TrainingArguments, state: Any, control: Any, **fields: Any) -> None:
        """Add a line."""
        logs = fields["logs"]
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise TrainingDiverged(f"the loss is {logs['loss']} at update {state.global_step}: lower learning_rate")
        if not state.is_world_process_zero:
            return
        now_s = time.monotonic()
        per_update_s = (now_s - self._started_s) / (state.global_step - self._first)
        row = {
            "update": state.global_step,
            "of": state.max_steps,
            "loss": round(logs["loss"], 5),
            "rate": logs["learning_rate"],
            "tokens": state.num_input_tokens_seen,
            "tokens_per_s": round((state.num_input_tokens_seen - self._logged_tokens) / (now_s - self._logged_s)),
            "s": round(self._earlier_s + now_s - self._started_s, 1),
            "left_s": round(per_update_s * (state.max_steps - state.global_step)),
        }
        self._logged_s, self._logged_tokens = now_s, state.num_input_tokens_seen
        with self._log.open("a") as file:
            file.write(json.dumps(row) + "\n")


def _last_complete(work: Path, *, clean: bool) -> Path | None:
    """The newest complete checkpoint. `clean` removes those that a kill left incomplete."""
    found = sorted(work.glob(_CHECKPOINTS), key=lambda folder: int(folder.name.rpartition("-")[2]))
    complete = [folder for folder in found if (folder / _COMPLETE).exists()]
    if clean:
        for folder in set(found) - set(complete):
            shutil.rmtree(folder)
    return complete[-1] if complete else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model, in bfloat16 and without adapters, and what the report says of its training."""

    model: PreTrainedModel
    report: dict[str, float]


def trained_model(
    job: Job, open_model: Callable[[], PreTrainedModel], objective: Objective, sizes: Sequence[Size]
) -> Trained | None:
    """Train by the job's settings, in one of its processes; None in all but the main one."""
    settings = job.settings
    limit = BatchLimit(tokens=settings.batch_tokens, examples=settings.batch_examples)
    plan = planned_batches(sizes, limit, epochs=settings.epochs, seed=job.seed)
    adapted = partial(with_adapters, lora=settings.lora, folder=job.start, seed=job.seed)
    trainer = PlannedTrainer(adapted(open_model()), objective, plan, settings=settings, work=job.work, seed=job.seed)
    trainer.run()
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return None
    last = list(read_records(job.work / LOG))[-1]
    report = {"updates": last["update"], "tokens": last["tokens"], "loss": last["loss"], "seconds": last["s"]}
    return Trained(model=merged(adapted(open_model()), weights), report=report)  # type: ignore[arg-type]
