"""`python -m training evaluate`: its options, and what it prints and writes.

part-*.jsonl      the results as they come in; a second run does only what is missing
about.json        what was measured
attempts.jsonl    every attempt, one problem a line, by the problem's name
evaluation.md     the summary, with plots/*.png
evaluation.json   flat figures
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from server.bundle.folders import bundled_models
from training.evaluation.attempts import attempts_record
from training.evaluation.figures import Measured, claims, confidence_of, curve, methods_of, share_of, solved, spending
from training.evaluation.measure import (
    LocalSource,
    Measurement,
    Measuring,
    Models,
    read_measured,
    run_measurement,
)
from training.evaluation.plots import Line, Mark, Scales, draw_lines, draw_reliability
from training.evaluation.server_solver import OFFERED, ServerSource
from training.evaluation.solutions import GUIDED, Method, SolverSource
from training.evaluation.summary import flat_figures, markdown
from training.problems.datasets import dataset_problems
from training.problems.families import FAMILIES, family_problems, missing_generator
from training.problems.files import file_problems
from training.problems.problem import Problem
from training.recipe import Engine
from training.records import write_json, write_records

_USUAL = (Method.GREEDY, Method.MAJORITY, Method.MCTS_CONSTANT, Method.MCTS)


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of a command line."""
    measure = commands.add_parser("evaluate", help="compare greedy, sampling and search at equal tokens")
    _add_subject(measure)
    _add_problems(measure)
    measure.add_argument(
        "--methods",
        nargs="+",
        choices=list(Method),
        metavar="METHOD",
        help=f"of {', '.join(Method)} (default: {', '.join(_USUAL)})",
    )
    measure.add_argument("--trajectories", type=int, default=16, help="of each search (default: 16)")
    measure.add_argument("--candidates", type=int, default=8, help="steps drawn at each expansion (default: 8)")
    measure.add_argument("--seed", type=int, default=0, help="of the policy's draws (default: 0)")
    measure.add_argument("--processes", type=int, default=2, help="with models of their own (default: 2)")
    measure.add_argument("--concurrency", type=int, default=24, help="problems at once, of each process (default: 24)")
    measure.add_argument("--folder", type=Path, help="keep results, summary and plots here, and go on from there")
    measure.add_argument("--json", type=Path, help="also write the figures here")
    measure.set_defaults(run=evaluate)


def _add_subject(measure: argparse.ArgumentParser) -> None:
    measure.add_argument("--policy", type=Path, help="policy folder; default: the bundled models")
    measure.add_argument("--ppm", type=Path, help="folder of the policy's PPM; without it, only methods that need none")
    measure.add_argument("--url", help="measure a running server instead, such as http://localhost:8000")
    measure.add_argument("--api-key-file", type=Path, help="file with the key for that server")


def _add_problems(measure: argparse.ArgumentParser) -> None:
    source = measure.add_mutually_exclusive_group()
    source.add_argument(
        "--families",
        nargs="+",
        choices=FAMILIES,
        metavar="FAMILY",
        default=list(FAMILIES),
        help=f"problems of these families only; all are {', '.join(FAMILIES)}",
    )
    source.add_argument(
        "--file", type=Path, nargs="+", help='JSON list or JSON lines of {"question" or "problem", "answer"}'
    )
    source.add_argument("--dataset", help="Hugging Face data set: a local folder, or with internet a name")
    measure.add_argument("--subset", help="configuration of the data set")
    measure.add_argument("--split", default="test", help="split of the data set (default: test)")
    measure.add_argument("--problems", type=int, default=50, help="per family, file or data set (default: 50)")


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command; the exit code."""
    for option in ("problems", "trajectories", "candidates", "processes", "concurrency"):
        if getattr(arguments, option) < 1:
            raise ValueError(f"--{option} must be at least 1, not {getattr(arguments, option)}")
    work = _work(arguments)
    problems = _problems(arguments)
    if arguments.folder is not None:
        return _measured(arguments, work, problems, folder=arguments.folder)
    with TemporaryDirectory() as folder:
        return _measured(arguments, work, problems, folder=Path(folder))


def _work(arguments: argparse.Namespace) -> Measuring:
    if arguments.url is not None and (arguments.policy or arguments.ppm):
        raise ValueError("give either --url or --policy and --ppm: a server has models of its own")
    url: str | None = arguments.url
    models = None if url is not None else _models(arguments)
    offered = OFFERED if models is None else frozenset(Method) - (GUIDED if models.ppm is None else frozenset())
    measurement = Measurement(
        methods=tuple(Method(name) for name in arguments.methods or [one for one in _USUAL if one in offered]),
        trajectories=arguments.trajectories,
        candidates=arguments.candidates,
        seed=arguments.seed,
    )
    source: SolverSource
    if models is None:
        assert url is not None
        source = ServerSource(url=url.rstrip("/"), candidates=arguments.candidates, api_key_file=arguments.api_key_file)
    else:
        engine = Engine(processes=arguments.processes, concurrency=arguments.concurrency)
        source = LocalSource(models=models, measurement=measurement, engine=engine)
    return Measuring(source, measurement)


def _models(arguments: argparse.Namespace) -> Models:
    if arguments.policy is not None:
        return Models(policy=arguments.policy, ppm=arguments.ppm)
    if arguments.ppm is not None:
        raise ValueError("--ppm needs --policy: a PPM reads the tokens of its own policy")
    bundled = bundled_models()
    return Models(policy=bundled.policy, ppm=bundled.ppm)


def _problems(arguments: argparse.Namespace) -> Sequence[Problem]:
    count: int = arguments.problems
    if arguments.file is not None:
        return [problem for file in arguments.file for problem in file_problems(file, limit=count)]
    if arguments.dataset is not None:
        return dataset_problems(arguments.dataset, subset=arguments.subset, split=arguments.split).problems[:count]
    if reason := missing_generator():
        raise ValueError(reason)
    return [problem for family in arguments.families for problem in family_problems(family, count)]


def _measured(arguments: argparse.Namespace, work: Measuring, problems: Sequence[Problem], *, folder: Path) -> int:
    run_measurement(
        problems,
        work,
        folder,
        processes=1 if arguments.url is not None else arguments.processes,
        concurrency=arguments.concurrency,
        label="evaluate",
    )
    wanted = {problem.id for problem in problems}
    measured = {problem: attempts for problem, attempts in read_measured(folder).items() if problem in wanted}
    figures, document = flat_figures(measured), markdown(measured)
    sys.stdout.write(document)
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, figures)
    if arguments.folder is not None:
        _write(folder, measured, document=document, figures=figures)
    return 0


def _write(folder: Path, measured: Measured, *, document: str, figures: dict[str, float | str]) -> None:
    write_records(
        folder / "attempts.jsonl",
        (
            attempts_record(problem, next(iter(attempts.values())).group, attempts.values())
            for problem, attempts in measured.items()
        ),
    )
    write_json(folder / "evaluation.json", figures)
    plots = _draw(folder, measured)
    links = "\n".join(f"![{title}]({file.relative_to(folder)})" for title, file in plots.items())
    (folder / "evaluation.md").write_text(f"{document}\n{links}\n")


def _draw(folder: Path, measured: Measured) -> dict[str, Path]:
    """Draw what there are figures for; the files by title."""
    plots: dict[str, Path] = {}
    lines = [
        Line(label=method, x=[point.trajectories for point in points], y=[point.share for point in points])
        for method in (Method.MCTS, Method.MCTS_CONSTANT)
        if method in methods_of(measured) and (points := curve(measured, method))
    ]
    if lines:
        title = "Problems solved by trajectories"
        plots[title] = folder / "plots" / "trajectories.png"
        ticks = [int(tick) for tick in lines[0].x]
        scales = Scales(title=title, x="trajectories per problem", ticks=ticks, is_log=True)
        draw_lines(plots[title], lines, scales=scales, marks=_marks(measured))
    if quality := confidence_of(claims(measured)):
        title = "Confidence of mcts"
        plots[title] = folder / "plots" / "confidence.png"
        draw_reliability(plots[title], {f"{quality.claims} answers": quality.bins}, title=title)
    return plots


def _marks(measured: Measured) -> list[Mark]:
    """The other methods, each at the mean number of its trajectories."""
    others = [one for one in methods_of(measured) if one not in (Method.MCTS, Method.MCTS_CONSTANT)]
    return [
        Mark(label=method, x=spending(measured, method).trajectories, y=share_of(solved(measured, method)))
        for method in others
    ]
