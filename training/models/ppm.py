# pyright: basic
"""The process preference model: the policy with a scalar head, trained on preference pairs (rStar-Math, section 3.3).

    loss = - sum over nodes of 1/(|positives| |negatives|) sum over pairs of log sigmoid(r_better - r_worse)

with r = tanh(head(hidden state of the path's last token)), in [-1, 1], as the paper states it and as it is served. The
bound matters: a Bradley-Terry loss fixes differences only, and tanh makes the model spread them over the whole range,
so that scores of different problems can be compared. Starts from the fine-tuned policy.

A path is rendered by the serving engine's own renderer, so that the PPM is trained on exactly the text that it will
score. A path that is longer than the model's context is left out: cutting it would remove the step to be judged.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen2ForSequenceClassification

<<<<<<< Updated upstream
from server.engines.rendering import PathTokens, StepTokenizer
from training.examples.paths import tokenised
from training.examples.preferences import Pair, pair_record, read_pair
from training.models.policy_model import on_training_device
=======
from search import CandidateStop, Path, PathStep
from server.engines.rendering import PathTokens
from training.examples.preferences import Pair
from training.models.folders import training_device
>>>>>>> Stashed changes
from training.records import read_records, write_records


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as token ids."""

    better: tuple[int, ...]
    worse: tuple[int, ...]
    weight: float
    problem_id: str
    """Pairs are split for validation by problem."""


def encode_pairs(pairs: Iterable[Pair], tokenizer: StepTokenizer, *, context: int) -> Iterator[EncodedPair]:
    """Render pairs, without those that do not fit."""
    rendering = PathTokens(tokenizer)
    for pair in pairs:
        better, worse = (rendering.token_ids(tokenised(path, tokenizer)) for path in (pair.better, pair.worse))
        if max(len(better), len(worse)) <= context:
            yield EncodedPair(better, worse, pair.weight, pair.problem_id)


def write_pairs(path: FilePath, pairs: Iterable[Pair]) -> None:
    """Write a file whole or not at all."""
    write_records(path, map(pair_record, pairs))


def read_pairs(path: FilePath) -> Iterator[Pair]:
    """Read a file back."""
    return map(read_pair, read_records(path))


@dataclass(frozen=True, slots=True, kw_only=True)
class PPMConfig:
    """How long and how fast to train."""

    epochs: int = 1
    """The paper's 1."""
    batch_pairs: int = 32
    learning_rate: float = 3e-4
    warmup: float = 0.05
    """Share of the run with a rising rate; then it falls linearly to zero."""
    weight_decay: float = 0.01
    seed: int = 0


def new_ppm(policy_folder: FilePath, *, seed: int) -> Qwen2ForSequenceClassification:
    """The policy's body with a fresh scalar head, in float32."""
    torch.manual_seed(seed)
    model = Qwen2ForSequenceClassification.from_pretrained(policy_folder, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, std=0.02)
    model.to(training_device())  # type: ignore[arg-type]
    return model


def preference_loss(better_N: Tensor, worse_N: Tensor, weight_N: Tensor) -> Tensor:
    """Bradley-Terry loss of scores in [-1, 1], averaged by weight."""
    return -(weight_N * functional.logsigmoid(better_N - worse_N)).sum() / weight_N.sum()


def train_ppm(
    model: Qwen2ForSequenceClassification, pairs: Sequence[EncodedPair], config: PPMConfig, *, log: FilePath
) -> None:
    """Train in place; a line of JSON to `log` every 20 steps."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=config.weight_decay
    )
    total = config.epochs * -(-len(pairs) // config.batch_pairs)
    generator = torch.Generator().manual_seed(config.seed)
    losses: list[float] = []
    started_s = time.monotonic()
    step = 0
    for _ in range(config.epochs):
        for indices in torch.randperm(len(pairs), generator=generator).split(config.batch_pairs):
            rate = config.learning_rate * min(1.0, (step + 1) / (config.warmup * total), (total - step) / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses.append(_step(model, optimizer, [pairs[index] for index in indices.tolist()]))
            step += 1
            if step % 20 == 0:
                row = {"step": step, "of": total, "loss": sum(losses) / len(losses), "s": time.monotonic() - started_s}
                with log.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                losses = []


def scores(model: Qwen2ForSequenceClassification, paths: Sequence[tuple[int, ...]]) -> Tensor:
    """Score of each path at its last token, in [-1, 1]."""
    pad = model.config.pad_token_id
    width = -(-max(len(path) for path in paths) // 16) * 16
    assert pad is not None, "policies are made with a padding token"
    device = model.score.weight.device
    ids_B_T = torch.full((len(paths), width), pad)
    for row, path in enumerate(paths):
        ids_B_T[row, : len(path)] = torch.tensor(path)
    last_B = torch.tensor([len(path) - 1 for path in paths])
    with torch.autocast(device.type, dtype=torch.bfloat16):
        # Causal attention never looks right, so right padding needs no mask.
        hidden_B_T_D = model.model(input_ids=ids_B_T.to(device)).last_hidden_state
        head_B = model.score(hidden_B_T_D[torch.arange(len(paths)), last_B]).squeeze(-1)
    return torch.tanh(head_B.float())


@torch.inference_mode()
def accuracy(model: Qwen2ForSequenceClassification, pairs: Sequence[EncodedPair], *, batch_pairs: int = 64) -> float:
    """Share of pairs in the right order."""
    right = 0
    for start in range(0, len(pairs), batch_pairs):
        batch = pairs[start : start + batch_pairs]
        both = scores(model, [pair.better for pair in batch] + [pair.worse for pair in batch])
        right += int((both[: len(batch)] > both[len(batch) :]).sum())
    return right / len(pairs)


def _step(
    model: Qwen2ForSequenceClassification, optimizer: torch.optim.Optimizer, batch: Sequence[EncodedPair]
) -> float:
    both = scores(model, [pair.better for pair in batch] + [pair.worse for pair in batch])
    weight_N = torch.tensor([pair.weight for pair in batch], device=both.device)
    loss = preference_loss(both[: len(batch)], both[len(batch) :], weight_N)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()
