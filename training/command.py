"""The command line: `python -m training bootstrap` makes the models, `python -m training evaluate` measures them."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from server.bundle.folders import ModelsMissing, bundled_models
from server.engines.errors import CheckpointError
from training.bootstrap import bootstrap
from training.bootstrap_config import BootstrapConfig
from training.evaluate import Attempt, EvaluationConfig, Method, evaluate
from training.problem_sets import LabelledProblem, ProblemFileError, family_problems, file_problems
from training.problems import FAMILIES
from training.report import print_report, write_report
from training.workbench import Sampling, Workbench, open_workbench


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        return arguments.run(arguments)
    except (ProblemFileError, ModelsMissing, CheckpointError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    commands = parser.add_subparsers(required=True)
    make = commands.add_parser("bootstrap", help="make a base policy and a first PPM; resumes where it stopped")
    make.add_argument("--folder", type=Path, default=Path("runs/base"), help="where all stages are kept")
    make.add_argument("--tokens", type=int, help="tokens of policy training")
    make.add_argument("--searched-problems", type=int, help="problems per family searched for the PPM")
    make.set_defaults(run=_bootstrap)
    measure = commands.add_parser("evaluate", help="compare greedy, majority and search at equal tokens")
    measure.add_argument("--policy", type=Path, help="policy folder; default: the bundled one")
    measure.add_argument("--ppm", type=Path, help="PPM folder; default: the bundled one")
    source = measure.add_mutually_exclusive_group()
    source.add_argument("--families", nargs="+", choices=FAMILIES, metavar="FAMILY", default=list(FAMILIES))
    source.add_argument("--file", type=Path, help='JSON list of {"index", "question", "answer"}')
    measure.add_argument("--problems", type=int, default=50, help="problems per family, or of the file")
    measure.add_argument("--trajectories", type=int, default=16)
    measure.add_argument("--candidates", type=int, default=8)
    measure.add_argument("--seed", type=int, default=0)
    measure.add_argument("--json", type=Path, help="also write the figures here")
    measure.set_defaults(run=_evaluate)
    return parser


def _bootstrap(arguments: argparse.Namespace) -> int:
    config = BootstrapConfig()
    if arguments.tokens is not None:
        config = replace(config, sft=replace(config.sft, total_tokens=arguments.tokens))
    if arguments.searched_problems is not None:
        config = replace(config, searched_problems=arguments.searched_problems)
    bootstrap(arguments.folder, config)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    if arguments.problems < 1 or arguments.trajectories < 1 or arguments.candidates < 1:
        raise ValueError("--problems, --trajectories and --candidates must be at least 1")
    return asyncio.run(_measure(arguments))


async def _measure(arguments: argparse.Namespace) -> int:
    config = EvaluationConfig(
        trajectories=arguments.trajectories, candidates=arguments.candidates, seed=arguments.seed
    )
    if (arguments.policy is None) != (arguments.ppm is None):
        raise ValueError("name both --policy and --ppm, or neither: a PPM reads the tokens of its own policy")
    policy, ppm = arguments.policy, arguments.ppm
    if policy is None:
        bundle = bundled_models()
        policy, ppm = bundle.policy, bundle.ppm
    async with open_workbench(policy, ppm, sampling=Sampling()) as workbench:
        problems = _problems(arguments, workbench)

        def progress(method: Method, attempt: Attempt) -> None:
            logging.getLogger(__name__).info(
                "%s %s: %s", method, attempt.problem_id, "right" if attempt.is_right else "wrong"
            )

        attempts = await evaluate(problems, config, workbench=workbench, on_attempt=progress)
    print_report(attempts)
    if arguments.json is not None:
        write_report(arguments.json, attempts)
    return 0


def _problems(arguments: argparse.Namespace, workbench: Workbench) -> list[LabelledProblem]:
    if arguments.file is not None:
        return file_problems(arguments.file, workbench.equality, limit=arguments.problems)
    return [problem for name in arguments.families for problem in family_problems(name, arguments.problems)]
