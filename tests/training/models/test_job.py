"""A job is done once; work that was begun is continued by the same job only; a model's folder is whole or not there."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from training.models.job import (
    Job,
    LaunchFailed,
    NoExamples,
    WorkOfAnotherJob,
    do,
    model_folder,
    read_job,
    whole_folder,
)
from training.models.sequences import SequenceWriter
from training.recipe import Training

SETTINGS = Training(learning_rate=1e-3, batch_examples=1)


class Stopped(Exception):
    """What ends a training here."""


def job_of(tmp_path: Path, start: Path, settings: Training = SETTINGS) -> Job:
    return Job(kind="policy", start=start, settings=settings, seed=1, work=tmp_path / "work", out=tmp_path / "out")


def write_examples(folder: Path, token: int = 5) -> Mapping[str, int]:
    writer = SequenceWriter()
    writer.add([token])
    writer.write(folder / "tokens")
    return {"examples": 1, "left_out": 2}


def train(job: Job) -> None:
    (job.work / "log.jsonl").write_text("{}\n")
    with model_folder(job, {"updates": 3}) as folder:
        (folder / "model").touch()


def stop(job: Job) -> None:
    (job.work / "checkpoint").touch()
    raise Stopped


def test_a_job_leaves_its_model_report_and_log(tmp_path: Path, start: Path) -> None:
    report = do(job_of(tmp_path, start), write_examples, train)
    assert report == {"kind": "policy", "examples": 1, "left_out": 2, "updates": 3}
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        *("model", "training.json", "training_log.jsonl")
    ]
    assert not (tmp_path / "work").exists()


def test_a_finished_job_is_not_done_again(tmp_path: Path, start: Path) -> None:
    job = job_of(tmp_path, start)
    assert do(job, write_examples, train) == do(job, write_examples, stop)


def test_a_stopped_job_goes_on_in_its_work_folder(tmp_path: Path, start: Path) -> None:
    job = job_of(tmp_path, start)
    with pytest.raises(Stopped):
        do(job, write_examples, stop)
    assert not job.out.exists()
    assert read_job(job.work) == Job(
        kind="policy", start=start.resolve(), settings=SETTINGS, seed=1, work=job.work, out=job.out.resolve()
    )

    def go_on(job: Job) -> None:
        assert (job.work / "checkpoint").exists()
        train(job)

    do(job, write_examples, go_on)
    assert job.out.exists()


def test_work_of_another_job_is_refused_by_what_differs(tmp_path: Path, start: Path) -> None:
    with pytest.raises(Stopped):
        do(job_of(tmp_path, start), write_examples, stop)
    other = job_of(tmp_path, start, Training(learning_rate=2e-3, batch_examples=1))
    with pytest.raises(WorkOfAnotherJob, match="other settings;"):
        do(other, write_examples, train)
    with pytest.raises(WorkOfAnotherJob, match="other examples;"):
        do(job_of(tmp_path, start), lambda folder: write_examples(folder, token=6), train)


def test_work_without_a_job_is_begun_again(tmp_path: Path, start: Path) -> None:
    job = job_of(tmp_path, start)
    (job.work / "examples").mkdir(parents=True)
    (job.work / "examples" / "half").touch()
    with pytest.raises(Stopped):
        do(job, write_examples, stop)
    assert not (job.examples / "half").exists()


def test_a_failed_save_leaves_no_model_folder(tmp_path: Path, start: Path) -> None:
    def fail(job: Job) -> None:
        with model_folder(job, {}) as folder:
            (folder / "model").touch()
            raise Stopped

    job = job_of(tmp_path, start)
    with pytest.raises(Stopped):
        do(job, write_examples, fail)
    assert not job.out.exists()
    do(job, write_examples, train)
    assert json.loads((job.out / "training.json").read_text())["updates"] == 3


def test_a_job_without_examples_says_how_many_were_too_long(tmp_path: Path, start: Path) -> None:
    with pytest.raises(NoExamples, match="2 are longer than max_length"):
        do(job_of(tmp_path, start), lambda folder: {**write_examples(folder), "examples": 0}, train)


@pytest.mark.slow
def test_a_failed_launch_is_named(tmp_path: Path, start: Path) -> None:
    settings = Training(learning_rate=1e-3, batch_examples=1, launch=("--no_such_option",))
    with pytest.raises(LaunchFailed, match="--no_such_option ended with status"):
        do(job_of(tmp_path, start, settings), write_examples, train)


def test_a_whole_folder_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with whole_folder(tmp_path / "model") as folder:
            (folder / name).touch()
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["second"]
