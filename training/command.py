"""The command line: `python -m training bootstrap` makes the models, `evaluate` measures them, `release` ships them."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from server.bundle.folders import ModelFolders, ModelsMissing, bundled_models
from server.engines.errors import CheckpointError
from training.evaluation.evaluate import (
    Attempts,
    EvaluationConfig,
    evaluate,
    merged,
    print_report,
    summarise_groups,
    write_report,
)
from training.problems.families import FAMILIES, family_problems, missing_generator
from training.problems.files import ProblemFileError, file_problems
from training.problems.problem import Problem
from training.searcher import open_searcher
from training.workers import worker_pool

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return arguments.run(arguments)
    except (ProblemFileError, ModelsMissing, CheckpointError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    measure = commands.add_parser("evaluate", help="compare greedy, majority and search at equal tokens")
    measure.add_argument("--policy", type=Path, help="policy folder; default: the bundled one")
    measure.add_argument("--ppm", type=Path, help="PPM folder; default: the bundled one")
    source = measure.add_mutually_exclusive_group()
    source.add_argument(
        "--families",
        nargs="+",
        choices=FAMILIES,
        metavar="FAMILY",
        default=list(FAMILIES),
        help=f"problems of these families only; all are {', '.join(FAMILIES)}",
    )
    source.add_argument("--file", type=Path, help='JSON list of {"index", "question", "answer"}')
    measure.add_argument("--problems", type=int, default=50, help="per family, or of the file (default: 50)")
    measure.add_argument("--trajectories", type=int, default=16, help="of each search (default: 16)")
    measure.add_argument("--candidates", type=int, default=8, help="steps drawn at each expansion (default: 8)")
    measure.add_argument("--seed", type=int, default=0, help="of the policy's draws (default: 0)")
    measure.add_argument("--processes", type=int, default=2, help="families measured at once (default: 2)")
    measure.add_argument("--json", type=Path, help="also write the figures here")
    measure.set_defaults(run=_evaluate)
    return parser


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.problems < 1 or arguments.trajectories < 1 or arguments.candidates < 1:
        raise ValueError("--problems, --trajectories and --candidates must be at least 1")
    config = EvaluationConfig(trajectories=arguments.trajectories, candidates=arguments.candidates, seed=arguments.seed)
    models = _models(arguments)
    if arguments.file is not None:
        problems = file_problems(arguments.file, limit=arguments.problems)
        attempts = asyncio.run(_measure(problems, models, config))
    else:
        _demand_generator()
        work = partial(_measure_family, count=arguments.problems, models=models, config=config)
        with worker_pool(arguments.processes) as pool:
            attempts = merged([_logged(part) for part in pool.map(work, arguments.families)])
    print_report(attempts)
    if arguments.json is not None:
        write_report(arguments.json, attempts)
    return 0


def _demand_generator() -> None:
    if reason := missing_generator():
        raise ValueError(reason)


def _models(arguments: argparse.Namespace) -> ModelFolders:
    if (arguments.policy is None) != (arguments.ppm is None):
        raise ValueError("name both --policy and --ppm, or neither: a PPM reads the tokens of its own policy")
    if arguments.policy is None:
        return bundled_models()
    return ModelFolders(policy=arguments.policy, ppm=arguments.ppm)


def _measure_family(name: str, *, count: int, models: ModelFolders, config: EvaluationConfig) -> Attempts:
    return asyncio.run(_measure(family_problems(name, count), models, config))


async def _measure(problems: Sequence[Problem], models: ModelFolders, config: EvaluationConfig) -> Attempts:
    async with open_searcher(models.policy, models.ppm) as searcher:
        return await evaluate(problems, config, searcher=searcher)


def _logged(attempts: Attempts) -> Attempts:
    for group, rows in summarise_groups(attempts).items():
        logger.info("%s: %s", group, ", ".join(f"{row.method} {row.share.mean:.2f}" for row in rows))
    return attempts
