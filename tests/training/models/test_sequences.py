"""Sequences come back as they were written; rows hold every sequence as a beginning, and none that they could spare."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.models.sequences import Sequences, SequenceWriter, packed_rows

TOKENS = st.lists(st.integers(0, 300), min_size=1, max_size=5)


def test_sequences_come_back_as_written(tmp_path: Path) -> None:
    writer = SequenceWriter()
    written = [[5, 70000, 2], [], [1]]
    assert [writer.add(sequence) for sequence in written] == [0, 1, 2]
    writer.write(tmp_path / "tokens")
    read = Sequences(tmp_path / "tokens")
    assert [read[index].tolist() for index in range(len(read))] == written
    assert read.lengths == [3, 0, 1]


@given(st.lists(TOKENS, min_size=1, max_size=20))
def test_rows_begin_with_their_sequences(sequences: list[list[int]]) -> None:
    packed = packed_rows([np.array(sequence, dtype=np.int32) for sequence in sequences])
    rows = [sequences[index] for index in packed.rows]
    for sequence, row in zip(sequences, packed.row_of, strict=True):
        assert rows[row][: len(sequence)] == sequence


@given(st.lists(TOKENS, min_size=1, max_size=20))
def test_no_row_begins_another_row(sequences: list[list[int]]) -> None:
    packed = packed_rows([np.array(sequence, dtype=np.int32) for sequence in sequences])
    rows = [sequences[index] for index in packed.rows]
    for index, row in enumerate(rows):
        assert not any(other[: len(row)] == row for place, other in enumerate(rows) if place != index)
