"""Records: whole files, and files that a crash cut off."""

from pathlib import Path

import pytest

from training.records import (
    Trajectory,
    appending,
    read_records,
    read_trajectories,
    write_records,
    write_trajectories,
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    records = [{"text": "x²\n"}, {"n": [1, 2]}]
    write_records(tmp_path / "new" / "file.jsonl", records)
    assert list(read_records(tmp_path / "new" / "file.jsonl")) == records


def test_a_file_whose_writing_fails_does_not_appear(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        write_records(tmp_path / "file.jsonl", [{"n": 1}, {"n": object()}])
    assert not (tmp_path / "file.jsonl").exists()


def test_a_line_cut_off_by_a_crash_is_neither_read_nor_continued(tmp_path: Path) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text('{"n": 1}\n{"n": ')
    assert list(read_records(file)) == [{"n": 1}]
    with appending(file) as append:
        append({"n": 2})
    assert list(read_records(file)) == [{"n": 1}, {"n": 2}]


def test_trajectories_survive_the_disk(tmp_path: Path) -> None:
    trajectory = Trajectory(
        problem_id="gcd/train/0",
        group="gcd",
        question="Find the gcd of 12 and 18.",
        steps=("\n# Read the numbers\na = 12\n", "\n# Print the answer\nprint(a)\n"),
        output="12",
        answer="6",
        is_right=False,
        source="test",
    )
    file = tmp_path / "some" / "trajectories.jsonl"
    write_trajectories(file, [trajectory, trajectory])
    assert list(read_trajectories(file)) == [trajectory, trajectory]
