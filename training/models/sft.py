# pyright: basic
"""Supervised fine-tuning: next-token loss on what the policy wrote; checkpoints often and resumes exactly.

Only the policy's own tokens carry loss. The problem and the program's output are given to it at inference, and learning
to write outputs would teach it to invent execution results.

Muon for the hidden matrices and AdamW for the rest: at this size it reaches the same loss in markedly fewer tokens
than AdamW alone. bfloat16 autocast over float32 weights.
"""

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional
from transformers import Qwen2ForCausalLM

from search import CandidateStop
from search.format import ANSWER, output_segments, prompt_segments
from server.engines.rendering import StepTokenizer
from training.models.folders import training_device
from training.records import Trajectory


@dataclass(frozen=True, slots=True)
class Example:
    """One training sequence."""

    token_ids: tuple[int, ...]
    is_target: tuple[bool, ...]
    """True where the policy wrote the token."""

    @property
    def prompt_length(self) -> int:
        """Tokens before the first that the policy wrote."""
        return self.is_target.index(True)


def answer_text(answer: str) -> str:
    """The answer step, as the policy writes it."""
    return f"\n{ANSWER}The answer is \\boxed{{{answer}}}."


def encode(trajectory: Trajectory, tokenizer: StepTokenizer) -> Example:
    """Tokenise step by step, just as search does: no token ever spans a step's border."""
    last = len(trajectory.steps) - 1
    stops = [CandidateStop.END_OF_CODE if index == last else CandidateStop.END_OF_STEP for index in range(last + 1)]
    steps = [tokenizer.encode_step(text, stop) for text, stop in zip(trajectory.steps, stops, strict=True)]
    given = [tokenizer.encode(segment) for segment in prompt_segments(trajectory.question)]
    shown = [tokenizer.encode(segment) for segment in output_segments(trajectory.output)]
    answer = tokenizer.encode_step(answer_text(trajectory.answer), CandidateStop.END_OF_ANSWER)
    token_ids: list[int] = []
    is_target: list[bool] = []
    for pieces, wrote in ((given, False), (steps, True), (shown, False), ([answer], True)):
        for ids in pieces:
            token_ids += ids
            is_target += [wrote] * len(ids)
    return Example(tuple(token_ids), tuple(is_target))


def batches(
    examples: Sequence[Example], *, tokens: int, generator: torch.Generator, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch of shuffled batches of similar prompt lengths, right-padded: ids_B_T and is_target_B_T.

    A batch holds at most `tokens` tokens, padding included. Sorting by whole lengths would pad less, but
    would separate the strategies of a family. From batches of one strategy each, the policy learns to be sure of the
    strategy that came last.
    """
    order = torch.randperm(len(examples), generator=generator).tolist()
    window = 4096  # sort by length within windows: little padding, and still a fresh mixture every epoch
    chunks: list[list[int]] = []
    for start in range(0, len(order), window):
        chunks.append([])
        longest = 0
        for index in sorted(order[start : start + window], key=lambda index: examples[index].prompt_length):
            longest = max(longest, len(examples[index].token_ids))
            if chunks[-1] and longest * (len(chunks[-1]) + 1) > tokens:
                chunks.append([])
                longest = len(examples[index].token_ids)
            chunks[-1].append(index)
    for position in torch.randperm(len(chunks), generator=generator).tolist():
        yield _padded([examples[index] for index in chunks[position]], pad_id)


def _padded(examples: Sequence[Example], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(len(example.token_ids) for example in examples)
    width = -(-longest // 16) * 16  # attention kernels are up to twice as fast at such lengths
    ids_B_T = torch.full((len(examples), width), pad_id)
    is_target_B_T = torch.zeros((len(examples), width), dtype=torch.bool)
    for row, example in enumerate(examples):
        ids_B_T[row, : len(example.token_ids)] = torch.tensor(example.token_ids)
        is_target_B_T[row, : len(example.is_target)] = torch.tensor(example.is_target)
    return ids_B_T, is_target_B_T


@dataclass(frozen=True, slots=True, kw_only=True)
class SFTConfig:
    """How long and how fast to train."""

    total_tokens: int = 17_000_000
    """Length of the run, prompts and padding included."""
    batch_tokens: int = 4096
    """Tokens of one forward pass."""
    accumulate: int = 4
    """Passes per update: each holds problems of one length, so several are mixed."""
    learning_rate: float = 3e-3
    """Peak rate; the same for both optimisers, since Muon's update is scaled to AdamW's."""
    warmup: float = 0.023
    """Share of the run with a rising rate."""
    decay: float = 0.25
    """Share of the run, at its end, with a rate falling linearly to zero; the rate is constant in between."""
    weight_decay: float = 0.01
    seed: int = 0
    checkpoint_s: float = 120.0


@dataclass(slots=True)
class _Progress:
    tokens: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch already seen."""


def train(
    model: Qwen2ForCausalLM, examples: Sequence[Example], config: SFTConfig, *, folder: Path, pad_id: int
) -> None:
    """Train in place, resuming from `folder` if it holds a checkpoint; log one JSON line every 50 steps."""
    model.to(training_device())  # type: ignore[arg-type]
    optimizers = _optimizers(model, config)
    progress = _resume(model, optimizers, folder)
    saved_at = logged_at = time.monotonic()
    losses: list[torch.Tensor] = []
    seen = progress.tokens
    stream = _stream(examples, config, progress, pad_id)
    for step in itertools.count():
        rate = config.learning_rate * _schedule(progress.tokens / config.total_tokens, config)
        passes = list(itertools.islice(stream, config.accumulate))
        if not passes:
            break
        losses.append(_step(model, optimizers, passes, rate))
        now = time.monotonic()
        if step % 50 == 49:
            speed = (progress.tokens - seen) / (now - logged_at)
            _log(folder, progress, torch.stack(losses).mean().item(), rate, speed)
            losses, logged_at, seen = [], now, progress.tokens
        if now - saved_at > config.checkpoint_s:
            _save(model, optimizers, progress, folder)
            saved_at = now
    _save(model, optimizers, progress, folder)


def _stream(
    examples: Sequence[Example], config: SFTConfig, progress: _Progress, pad_id: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches from where `progress` stands until the tokens are spent; moves `progress` along."""
    while True:
        generator = torch.Generator().manual_seed(config.seed * 1000 + progress.epoch)
        epoch = batches(examples, tokens=config.batch_tokens, generator=generator, pad_id=pad_id)
        for index, batch in enumerate(epoch):
            if index < progress.batch:
                continue
            if progress.tokens >= config.total_tokens:
                return
            yield batch
            progress.tokens += batch[0].numel()
            progress.batch = index + 1
        progress.epoch += 1
        progress.batch = 0


def _step(
    model: Qwen2ForCausalLM,
    optimizers: Sequence[torch.optim.Optimizer],
    passes: Sequence[tuple[torch.Tensor, torch.Tensor]],
    rate: float,
) -> torch.Tensor:
    targets = sum(int(is_target_B_T[:, 1:].sum()) for _, is_target_B_T in passes)
    device = training_device()
    total = torch.zeros((), device=device)
    for ids_B_T, is_target_B_T in passes:
        loss = _summed_loss(model, ids_B_T.to(device), is_target_B_T.to(device)) / targets
        loss.backward()
        total += loss.detach()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    return total


def _summed_loss(model: Qwen2ForCausalLM, ids_B_T: torch.Tensor, is_target_B_T: torch.Tensor) -> torch.Tensor:
    with torch.autocast(ids_B_T.device.type, dtype=torch.bfloat16):
        # Causal attention never looks right, so right padding needs no mask.
        hidden_B_T_D = model.model(input_ids=ids_B_T).last_hidden_state
        predicts_B_T = is_target_B_T[:, 1:]
        logits_N_V = model.lm_head(hidden_B_T_D[:, :-1][predicts_B_T])
    return functional.cross_entropy(logits_N_V.float(), ids_B_T[:, 1:][predicts_B_T], reduction="sum")


def _optimizers(model: Qwen2ForCausalLM, config: SFTConfig) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(others, lr=config.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _schedule(progress: float, config: SFTConfig) -> float:
    return max(0.0, min(1.0, progress / config.warmup, (1.0 - progress) / config.decay))


def _save(
    model: Qwen2ForCausalLM, optimizers: Sequence[torch.optim.Optimizer], progress: _Progress, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "training.pt.partial"
    torch.save(
        {
            "model": model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
            "progress": (progress.tokens, progress.epoch, progress.batch),
        },
        partial,
    )
    partial.rename(folder / "training.pt")


def _resume(model: Qwen2ForCausalLM, optimizers: Sequence[torch.optim.Optimizer], folder: Path) -> _Progress:
    path = folder / "training.pt"
    if not path.exists():
        return _Progress()
    state = torch.load(path, weights_only=True, map_location=training_device())
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return _Progress(*state["progress"])


def _log(folder: Path, progress: _Progress, loss: float, rate: float, tokens_per_s: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    row = {"tokens": progress.tokens, "loss": round(loss, 4), "rate": rate, "tokens_per_s": round(tokens_per_s)}
    with (folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
