"""The command line: `python -m training evaluate` measures models, or a running server."""

import argparse
import logging
import sys
from collections.abc import Sequence

from server.bundle.folders import ModelsMissing
from server.engines.errors import CheckpointError
from training.evaluation import command as evaluation
from training.evaluation.measure import MeasuredOtherwise
from training.evaluation.server_solver import ServerRefused
from training.problems.files import ProblemFileError
from training.workers import WorkFailed

_REFUSALS = (
    CheckpointError,
    MeasuredOtherwise,
    ModelsMissing,
    ProblemFileError,
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
    evaluation.add_parser(commands)
    return parser
