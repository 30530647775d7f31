"""The policy: fine-tunes a start model on solutions. It learns the end tokens of steps, but no prompts and outputs."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

from server.engines.model_folder import ModelFolder
from training.models.encoded import PolicyExamples, encode, write_policy_examples
from training.models.folders import open_policy, quiet_libraries, save_policy
from training.models.job import Job, do, model_folder
from training.models.objectives import PolicyObjective
from training.models.report import TrainingReport
from training.models.trainer import trained_model
from training.recipe import Training
from training.records import Trajectory

POLICY = "policy"


def train_policy(
    start: Path, trajectories: Iterable[Trajectory], settings: Training, *, work: Path, out: Path, seed: int
) -> TrainingReport:
    """Fine-tune the model of the folder `start`; `out` becomes a servable folder. Goes on where it was stopped."""

    def write_examples(folder: Path) -> dict[str, int]:
        tokenizer = ModelFolder(start).step_tokenizer
        examples = (encode(trajectory, tokenizer) for trajectory in trajectories)
        return write_policy_examples(folder, examples, max_length=longest(start, settings))

    job = Job(kind=POLICY, start=start, settings=settings, seed=seed, work=work, out=out)
    return TrainingReport.model_validate(do(job, write_examples, fine_tune))


@quiet_libraries()
def fine_tune(job: Job) -> None:
    """Do the job, in one of its processes."""
    examples = PolicyExamples(job.examples)
    trained = trained_model(job, partial(open_policy, job.start), PolicyObjective(examples), examples.sizes())
    if trained is not None:
        with model_folder(job, trained.report) as folder:
            save_policy(trained.model, job.start, folder)


def longest(start: Path, settings: Training) -> int:
    """Tokens of an example at most."""
    return min(settings.max_length, ModelFolder(start).context_tokens)
