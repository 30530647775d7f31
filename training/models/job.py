"""A training job: encoded examples and a start model in, a servable model out; in this process, or by accelerate.

The work folder holds `job.json` (what is trained; another job is refused), `examples/`, `log.jsonl` and checkpoints. It
goes once the model's folder is there, which appears whole or not at all. Beside the model that folder holds
`training.json`, the report, and `training_log.jsonl`. A job whose model is there is not done again.

`python -m training.models WORK` does the job of a work folder: `accelerate launch` starts it in every process.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server.engines.model_folder import ModelFolder
from training.recipe import Training

REPORT, LOG_COPY = "training.json", "training_log.jsonl"
_JOB = "job.json"


class WorkOfAnotherJob(Exception):
    """The work folder was begun for another job; the message says what to do."""


class NoExamples(Exception):
    """There is nothing to train on; the message says whether examples were left out."""


class LaunchFailed(Exception):
    """A process of `accelerate launch` failed; its own messages are above this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What is trained."""

    kind: str
    """policy, or a `RewardKind`."""
    start: Path
    """The folder of the model to start from."""
    settings: Training
    seed: int
    work: Path
    out: Path

    @property
    def examples(self) -> Path:
        """Folder of the encoded examples."""
        return self.work / "examples"


def do(job: Job, write_examples: Callable[[Path], Mapping[str, int]], train: Callable[[Job], None]) -> dict[str, Any]:
    """Do the job unless it is done; its report. `write_examples` fills a folder, and returns counts for the report."""
    if not job.out.exists():
        _begin(job, write_examples)
        if job.settings.launch is None:
            train(job)
        else:
            _launch(job)
    shutil.rmtree(job.work, ignore_errors=True)
    return json.loads((job.out / REPORT).read_text())


def read_job(work: Path) -> Job:
    """The job of a work folder."""
    fields = json.loads((work / _JOB).read_text())
    return Job(
        kind=fields["kind"],
        start=Path(fields["start"]),
        settings=Training.model_validate(fields["settings"]),
        seed=fields["seed"],
        work=work,
        out=Path(fields["out"]),
    )


@contextmanager
def model_folder(job: Job, report: Mapping[str, Any]) -> Generator[Path]:
    """A folder to save the model to, which becomes the job's model folder at the end."""
    with whole_folder(job.out) as folder:
        yield folder
        counts = json.loads((job.work / _JOB).read_text())["counts"]
        (folder / REPORT).write_text(json.dumps({"kind": job.kind, **counts, **report}, indent=2) + "\n")
        shutil.copyfile(job.work / "log.jsonl", folder / LOG_COPY)


@contextmanager
def whole_folder(target: Path) -> Generator[Path]:
    """A folder that appears under its name only once it is complete, in the place of an older one."""
    partial_folder = target.with_name(target.name + ".partial")
    shutil.rmtree(partial_folder, ignore_errors=True)
    partial_folder.mkdir(parents=True)
    yield partial_folder
    shutil.rmtree(target, ignore_errors=True)
    partial_folder.rename(target)


def _begin(job: Job, write_examples: Callable[[Path], Mapping[str, int]]) -> None:
    """Write the examples and the job, or see that the work folder holds the same ones."""
    file = job.work / _JOB
    if not file.exists():
        shutil.rmtree(job.work, ignore_errors=True)
    new = job.work / "examples.new"
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    counts = write_examples(new)
    if not counts["examples"]:
        raise NoExamples(f"no example for the {job.kind}: of all, {counts['left_out']} are longer than max_length")
    fields = {
        "kind": job.kind,
        "start": str(job.start.resolve()),
        "start_model": ModelFolder(job.start).model_id,
        "settings": job.settings.model_dump(mode="json"),
        "seed": job.seed,
        "out": str(job.out.resolve()),
        "examples": _digest(new),
        "counts": dict(counts),
    }
    if not file.exists():
        new.rename(job.examples)
        partial_file = file.with_suffix(".partial")
        partial_file.write_text(json.dumps(fields, indent=2) + "\n")
        partial_file.rename(file)
        return
    shutil.rmtree(new)
    begun = json.loads(file.read_text())
    if other := [name for name in fields if fields[name] != begun[name]]:
        raise WorkOfAnotherJob(
            f"{job.work} was begun with other {', '.join(other)}; go on with those, or remove the folder"
        )


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.npy")):
        with file.open("rb") as content:
            digest.update(str(file.relative_to(folder)).encode() + hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def _launch(job: Job) -> None:
    """Run the job in the processes that `accelerate launch` starts."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *(job.settings.launch or ())]
    ended = subprocess.run([*command, "-m", "training.models", str(job.work)], check=False)
    if ended.returncode != 0:
        raise LaunchFailed(f"{' '.join(command)} ended with status {ended.returncode}; see its messages above")
