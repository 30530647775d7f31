"""PPM data: preference pairs on disk and as token ids.

A path is rendered by the serving engine's own renderer, so that the PPM is trained on exactly what it will score. A
path that is longer than the model's context is left out: cutting it would remove the step to be judged.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path as FilePath
from typing import Any, cast

from search.outcomes import CandidateStop
from search.protocols import Path, PathStep
from server.engines.rendering import PathTokens
from training.preferences import Pair
from training.records import read_records, write_records


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A pair as token ids."""

    better: tuple[int, ...]
    worse: tuple[int, ...]
    weight: float
    problem: str
    """The problem's text: pairs are split for validation by problem."""


def encode_pairs(pairs: Iterable[Pair], tokens: PathTokens, *, context: int) -> Iterator[EncodedPair]:
    """Render pairs, without those that do not fit."""
    for pair in pairs:
        better, worse = tokens.token_ids(pair.better), tokens.token_ids(pair.worse)
        if max(len(better), len(worse)) <= context:
            yield EncodedPair(better, worse, pair.weight, pair.better.problem)


def split_by_problem(pairs: Sequence[EncodedPair], *, held_out: float) -> tuple[list[EncodedPair], list[EncodedPair]]:
    """Training and validation pairs; no problem is on both sides."""
    problems = sorted({pair.problem for pair in pairs})
    every = max(2, round(1 / held_out))
    validation = set(problems[::every])
    return (
        [pair for pair in pairs if pair.problem not in validation],
        [pair for pair in pairs if pair.problem in validation],
    )


def write_pairs(path: FilePath, pairs: Iterable[Pair]) -> int:
    """Write a file whole or not at all; returns how many."""
    return write_records(path, map(asdict, pairs))


def read_pairs(path: FilePath) -> Iterator[Pair]:
    """Read a file back."""
    for fields in read_records(path):
        yield Pair(better=_path(fields["better"]), worse=_path(fields["worse"]), weight=fields["weight"])


def _path(fields: dict[str, Any]) -> Path:
    steps = cast(list[dict[str, Any]], fields["steps"])
    return Path(
        problem=fields["problem"],
        steps=tuple(
            PathStep(
                text=step["text"],
                token_ids=tuple(step["token_ids"]),
                stop=CandidateStop(step["stop"]),
                output=step["output"],
            )
            for step in steps
        ),
    )
