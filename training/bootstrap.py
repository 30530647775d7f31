"""The start of a run: the base model, and the policy that makes the rollouts of round 1.

The paper prompts a model of 236 billion parameters for round 1. A recipe can do so too, or train the policy on given
solutions, or on those of the scripted teacher, or begin with models that are there.

    bootstrap/demonstrations/FAMILY.jsonl   the teacher's solutions
    bootstrap/demonstrations.jsonl          the solutions that were given
    bootstrap/start/                        the untrained model of a run from scratch
    bootstrap/policy/, bootstrap/ppm/       the models that round 1 begins with
"""

import itertools
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from search.format import prompt_segments
from server.bundle.folders import bundled_models, is_model
from server.engines.model_folder import ModelFolder, PolicyKind
from training.evaluation.measure import Models
from training.models.encoded import answer_text
from training.models.policy import train_policy
from training.models.policy_model import PolicyShape, start_from_model, start_from_scratch
from training.problems.families import FAMILIES, Family
from training.recipe import Bootstrap, Recipe, RecipeError
from training.records import Trajectory, read_trajectories, write_trajectories
from training.rollouts import training_seed
from training.run_folder import RunFolder
from training.teacher.demonstrate import demonstrations
from training.workers import Result, run_work

_TOKENIZER_TEXTS = 2_500
"""Demonstrations per family that the tokenizer is learnt from. gsm_symbolic, which has the words, gives three times as
many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What the rounds begin with."""

    base: Path
    """The fine-tuning of every round begins with this model."""
    models: Models


def make_start(recipe: Recipe, run: RunFolder, models: Path | None) -> Start:
    """Make what the recipe asks for; or copy `models`, a folder with `policy`, and with `ppm` if there is one.

    Raises `RecipeError` where a model or the file of solutions cannot be read, and where a run that began with `models`
    goes on without, or the other way round.
    """
    _check_models(run, models)
    folder = run.path / "bootstrap"
    policy, ppm = folder / "policy", None
    if models is not None:
        ppm = folder / "ppm" if (models / "ppm").exists() else None
        _copy_models(run, models, policy, ppm)
        if recipe.examples.demonstrations == "unsolved":
            _keep_solutions(recipe, run)
    elif recipe.bootstrap.kind == "teacher":
        _train_pupil(recipe, run, policy)
    elif recipe.bootstrap.kind == "solutions":
        _train_on_solutions(recipe, run, policy)
    elif recipe.bootstrap.kind == "few_shot":
        assert recipe.bootstrap.model is not None
        policy = find_model(recipe.bootstrap.model)
    else:
        policy = _start_model(recipe, run)
    base = policy if recipe.base == "bootstrap" else _start_model(recipe, run)
    return Start(base=base, models=Models(policy=policy, ppm=ppm, policy_round=0, ppm_round=0 if ppm else None))


def _check_models(run: RunFolder, models: Path | None) -> None:
    """One kind of start would write over the other's models."""
    if models is None and "bootstrap/models" in run.stages:
        raise RecipeError(f"{run.path} began with the models of another folder; name it again with --models")
    if models is not None and "bootstrap/policy" in run.stages:
        raise RecipeError(f"{run.path} makes its first policy itself; leave out --models, or begin another run")


def find_model(name: str) -> Path:
    """The folder of a model: `bundle`, a folder, or a name on the Hugging Face hub, which is downloaded."""
    if name == "bundle":
        return bundled_models().policy
    if is_model(Path(name)):
        return Path(name)
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(cast(Any, huggingface_hub).snapshot_download(name))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise RecipeError(
            f"the model {name} is no folder with a config.json, and cannot be downloaded ({error}); name a model folder"
        ) from error


def _start_model(recipe: Recipe, run: RunFolder) -> Path:
    """The start model, with the tokens of the step format."""
    source = find_model(recipe.start)
    if ModelFolder(source).policy_kind is not PolicyKind.INSTRUCT:
        return source
    start = run.path / "bootstrap" / "start"
    run.stage("bootstrap/start", inputs=[source], outputs=[start], make=lambda: start_from_model(start, source))
    return start


def _copy_models(run: RunFolder, models: Path, policy: Path, ppm: Path | None) -> None:
    sources = [models / "policy", *([models / "ppm"] if ppm else [])]
    if not is_model(sources[0]):
        raise RecipeError(
            f"{sources[0]} is no model folder; expected models in {models}/policy and perhaps {models}/ppm"
        )
    targets = [policy, *([ppm] if ppm else [])]

    def copy() -> None:
        for source, target in zip(sources, targets, strict=True):
            shutil.copytree(source, target, dirs_exist_ok=True)

    run.stage("bootstrap/models", outputs=targets, make=copy)


def _keep_solutions(recipe: Recipe, run: RunFolder) -> Path:
    """A copy of the solutions that the recipe names."""
    file, kept = recipe.bootstrap.file, run.path / "bootstrap" / "demonstrations.jsonl"
    assert file is not None
    run.stage(
        "bootstrap/demonstrations",
        inputs=[file],
        outputs=[kept],
        make=lambda: write_trajectories(kept, _read_solutions(file)),
    )
    return kept


def _read_solutions(file: Path) -> list[Trajectory]:
    try:
        return list(read_trajectories(file))
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise RecipeError(
            f"{file} holds no solutions ({error!r}); expected JSON lines of training.records.Trajectory"
        ) from error


def _train_on_solutions(recipe: Recipe, run: RunFolder, policy: Path) -> None:
    training = recipe.bootstrap.training
    assert training is not None
    kept, start = _keep_solutions(recipe, run), _start_model(recipe, run)
    run.stage(
        "bootstrap/policy",
        inputs=[kept, start],
        outputs=[policy],
        make=lambda: train_policy(
            start,
            read_trajectories(kept),
            training,
            work=policy.with_name("policy.work"),
            out=policy,
            seed=training_seed(recipe.seed, "bootstrap"),
        ),
    )


def _train_pupil(recipe: Recipe, run: RunFolder, policy: Path) -> None:
    """A policy from scratch, or from the start model, on the teacher's demonstrations."""
    settings, folder = recipe.bootstrap, run.path / "bootstrap"
    assert settings.training is not None
    training, solved = settings.training, folder / "demonstrations"
    names = settings.families or FAMILIES
    run.stage(
        "bootstrap/demonstrations",
        outputs=[solved],
        make=lambda: run_work(
            Demonstrate(settings=settings, seed=recipe.seed, folder=solved),
            {name: name for name in names},
            folder / "demonstrated",
            processes=recipe.engine.processes,
            concurrency=1,
            label="demonstrations",
        ),
    )
    if recipe.start == "scratch":
        start = folder / "start"
        run.stage(
            "bootstrap/start",
            inputs=[solved],
            outputs=[start],
            make=lambda: start_from_scratch(start, _tokenizer_texts(solved, names), PolicyShape(), seed=recipe.seed),
        )
    else:
        start = _start_model(recipe, run)
    run.stage(
        "bootstrap/policy",
        inputs=[solved, start],
        outputs=[policy],
        make=lambda: train_policy(
            start,
            itertools.chain.from_iterable(read_trajectories(solved / f"{name}.jsonl") for name in names),
            training,
            work=folder / "policy.work",
            out=policy,
            seed=training_seed(recipe.seed, "bootstrap"),
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstrate:
    """The work of solving a family's training problems by the teacher."""

    settings: Bootstrap
    seed: int
    folder: Path

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[str], Awaitable[Result]]]:
        """See `training.workers.Work`."""

        async def demonstrate(name: str) -> Result:
            count = self.settings.demonstrations_of.get(name, self.settings.demonstrations)
            found = list(demonstrations(Family(name), count, seed=self.seed))
            write_trajectories(self.folder / f"{name}.jsonl", found)
            return {"demonstrations": len(found), "right": sum(one.is_right for one in found)}

        yield demonstrate


def _tokenizer_texts(solved: Path, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        count = _TOKENIZER_TEXTS * (3 if name == "gsm_symbolic" else 1)
        for trajectory in itertools.islice(read_trajectories(solved / f"{name}.jsonl"), count):
            yield from _texts(trajectory)


def _texts(trajectory: Trajectory) -> Iterator[str]:
    yield from (segment.text for segment in prompt_segments(trajectory.question))
    yield from trajectory.steps
    yield answer_text(trajectory.answer)
