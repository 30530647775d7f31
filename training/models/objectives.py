# pyright: basic
"""What models learn: the policy its own tokens; reward models an order (PPM), a value (PQM) or an outcome (ORM).

    policy  cross-entropy of the next token, where the policy wrote it
    ppm     -log sigmoid(r_better - r_worse)                       (rStar-Math, section 3.3)
    pqm     (r - Q)^2
    orm     cross-entropy of P(right) = sigmoid(2 head) = (1 + r) / 2

with r = tanh(head at the path's last token), in [-1, 1], as it is served. The bound matters: a Bradley-Terry loss fixes
differences only, and tanh makes the model spread them over the whole range, so that scores of different problems can be
compared. The policy never learns outputs: it would invent execution results.

Rows are padded on the right, where causal attention never looks: no mask is needed, and the padding's token is of no
matter.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.models.encoded import PolicyExamples, RewardExamples, distinct_paths
from training.models.sequences import Tokens, packed_rows
from training.models.trainer import Batch

WIDTH = 16
"""Rows are padded to a multiple of it: attention kernels are up to twice as fast at such lengths."""
IGNORED = -100
"""The label of a position without loss."""


class RewardKind(StrEnum):
    """What a reward model is trained on."""

    PPM = "ppm"
    """Preferences between paths."""
    PQM = "pqm"
    """The value Q of paths."""
    ORM = "orm"
    """The outcome of whole solutions."""


class PolicyObjective:
    """Next-token loss on what the policy wrote, its end tokens included."""

    def __init__(self, examples: PolicyExamples) -> None:
        self._examples = examples

    def batch(self, examples: Sequence[int]) -> Batch:
        """See `Objective.batch`. `labels` are those of `positions`, the columns that predict a target in some row."""
        rows = [self._examples.tokens[index] for index in examples]
        ids_B_T = _padded(rows)
        labels_B_T = torch.full_like(ids_B_T, IGNORED)
        for row, index in enumerate(examples):
            labels = np.where(self._examples.is_target[index], rows[row], IGNORED)[1:]
            labels_B_T[row, : len(labels)] = torch.from_numpy(labels)
        positions_K = (labels_B_T != IGNORED).any(dim=0).nonzero().squeeze(1)
        weight = (labels_B_T != IGNORED).sum().float()
        return {"input_ids": ids_B_T, "positions": positions_K, "labels": labels_B_T[:, positions_K], "weight": weight}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`. Logits of other positions are never computed: they are most of the memory."""
        logits_B_K_V = model(input_ids=batch["input_ids"], logits_to_keep=batch["positions"]).logits
        return functional.cross_entropy(
            logits_B_K_V.flatten(0, 1).float(), batch["labels"].flatten(), ignore_index=IGNORED, reduction="sum"
        )


class RewardObjective:
    """The loss of a reward model, whose forward pass gives the head of every token."""

    def __init__(self, kind: RewardKind, examples: RewardExamples, *, auxiliary: float) -> None:
        self._kind, self._examples, self._auxiliary = kind, examples, auxiliary

    def batch(self, examples: Sequence[int]) -> Batch:
        """See `Objective.batch`. `path`, `worse`: which of the distinct paths a record is about."""
        units = self._examples.units
        records = np.concatenate([self._examples.records[units[index]] for index in examples])
        paths = distinct_paths(records)
        tokens = [self._examples.paths[path] for path in paths]
        packed = packed_rows(tokens)
        batch = {
            "input_ids": _padded([tokens[index] for index in packed.rows]),
            "row": torch.tensor(packed.row_of),
            "last": torch.tensor([len(path) - 1 for path in tokens]),
            "path": torch.from_numpy(np.searchsorted(paths, records["path"])),
            "worse": torch.from_numpy(np.searchsorted(paths, records["worse"])),
            "target": torch.from_numpy(records["target"].copy()),
            "record_weight": torch.from_numpy(records["weight"].copy()),
            "weight": torch.tensor(records["weight"].sum()),
        }
        return batch | self._token_labels(records, batch, self._examples.prompts[paths]) if self._auxiliary else batch

    def _token_labels(self, records: NDArray[np.void], batch: Batch, prompts: NDArray[np.int32]) -> Batch:
        """For each token of the solutions: its weight, and how much of it says right."""
        weight_R_T, right_R_T = (torch.zeros(batch["input_ids"].shape) for _ in range(2))

        def add(path: int, *, right: float, weight: float) -> None:
            tokens = slice(int(prompts[path]), int(batch["last"][path]) + 1)
            share = weight / max(1, tokens.stop - tokens.start)
            weight_R_T[batch["row"][path], tokens] += share
            right_R_T[batch["row"][path], tokens] += share * right

        for record, path, worse in zip(records, batch["path"].tolist(), batch["worse"].tolist(), strict=True):
            if record["worse"] < 0:
                add(path, right=(1 + record["target"]) / 2, weight=record["weight"])
            else:
                add(path, right=1.0, weight=record["weight"] / 2)
                add(worse, right=0.0, weight=record["weight"] / 2)
        return {"token_weight": weight_R_T, "token_right": right_R_T}

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        head_R_T = model(input_ids=batch["input_ids"]).logits.squeeze(-1).float()
        head_P = head_R_T[batch["row"], batch["last"]]
        loss = (batch["record_weight"] * self._losses(head_P, batch)).sum()
        if self._auxiliary:
            # Cross-entropy of sigmoid(z) with label y is softplus(z) - y z.
            z_R_T = 2 * head_R_T
            on_tokens_R_T = batch["token_weight"] * functional.softplus(z_R_T) - batch["token_right"] * z_R_T
            loss = loss + self._auxiliary * on_tokens_R_T.sum()
        return loss

    def _losses(self, head_P: Tensor, batch: Batch) -> Tensor:
        r_P = torch.tanh(head_P)
        match self._kind:
            case RewardKind.PPM:
                return -functional.logsigmoid(r_P[batch["path"]] - r_P[batch["worse"]])
            case RewardKind.PQM:
                return (r_P[batch["path"]] - batch["target"]) ** 2
            case RewardKind.ORM:
                return functional.binary_cross_entropy_with_logits(
                    2 * head_P[batch["path"]], (1 + batch["target"]) / 2, reduction="none"
                )


@torch.inference_mode()
def path_scores(model: nn.Module, paths: Sequence[Tokens], *, device: torch.device) -> list[float]:
    """The score of each path, in [-1, 1], by a model that gives the head of every token."""
    head_R_T = model(input_ids=_padded(paths).to(device)).logits.squeeze(-1).float()
    last_R = torch.tensor([len(path) - 1 for path in paths], device=device)
    return torch.tanh(head_R_T[torch.arange(len(paths), device=device), last_R]).tolist()


def _padded(rows: Sequence[Tokens | NDArray[Any]]) -> Tensor:
    width = -(-max(map(len, rows)) // WIDTH) * WIDTH
    ids_B_T = torch.zeros((len(rows), width), dtype=torch.long)
    for row, tokens in enumerate(rows):
        ids_B_T[row, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
    return ids_B_T
