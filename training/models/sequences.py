"""Token sequences of a training: one after another in a flat file, which all processes map into memory.

A path that begins another path needs no row of its own: a causal model's score at its last token is the same in both.
`packed_rows` finds the rows that hold all given sequences.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tokens: TypeAlias = NDArray[np.integer[Any]]


class Sequences:
    """Sequences by index; read from files, never changed."""

    def __init__(self, folder: Path) -> None:
        self._content: Tokens = np.load(folder / "content.npy", mmap_mode="r")
        self._starts: NDArray[np.int64] = np.load(folder / "starts.npy")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Tokens:
        return self._content[self._starts[index] : self._starts[index + 1]]

    @property
    def lengths(self) -> list[int]:
        """Elements of each."""
        lengths: list[int] = np.diff(self._starts).tolist()
        return lengths


class SequenceWriter:
    """Collects sequences of token ids, or of flags, and writes the files that `Sequences` reads."""

    def __init__(self, *, of_flags: bool = False) -> None:
        self._content, self._starts = array("b" if of_flags else "i"), array("q", [0])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def add(self, sequence: Iterable[int]) -> int:
        """The index of the sequence."""
        self._content.extend(sequence)
        self._starts.append(len(self._content))
        return len(self._starts) - 2

    def write(self, folder: Path) -> None:
        """Write the files."""
        folder.mkdir(parents=True)
        np.save(folder / "content.npy", np.asarray(self._content))
        np.save(folder / "starts.npy", np.asarray(self._starts))


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedRows:
    """Rows that hold every sequence as one of their beginnings."""

    rows: tuple[int, ...]
    """Which of the sequences are rows."""
    row_of: tuple[int, ...]
    """For each sequence the row that it begins."""


def packed_rows(sequences: Sequence[Tokens]) -> PackedRows:
    """The fewest rows."""
    # In sorted order, a sequence that begins any other begins the next one. Every token has the same number of bytes.
    content = [sequence.tobytes() for sequence in sequences]
    rows: list[int] = []
    row_of = [0] * len(content)
    following = b""
    for index in sorted(range(len(content)), key=content.__getitem__, reverse=True):
        if not rows or not following.startswith(content[index]):
            rows.append(index)
        row_of[index] = len(rows) - 1
        following = content[index]
    return PackedRows(rows=tuple(rows), row_of=tuple(row_of))
