"""Conversion: published solutions become verified step programs, and the problem files of a run.

    solutions.jsonl          training.records.Trajectory: every program ran in the sandbox and printed the known answer
    train/NAME.jsonl         training problems of the file NAME: `id`, `problem` and `answer`
    validation/NAME.jsonl    one problem in ten, by the hash of its id: `portion = "held_out"` of a recipe
    report.json              counts: read, left out for overlaps, converted, refused by reason, run, right

No solution of a validation problem is converted. Training problems that overlap with validation problems, or with the
evaluation sets that are named, are left out with their solutions. So are problems whose program prints another answer:
either the program or the label is wrong.
"""

import asyncio
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, cast

from sandbox import Outcome as StepOutcome
from sandbox import Sandbox, wanted_level
from server.answers.equality import EqualityPool
from server.parts.runner import STEP_LIMITS
from training.examples.programs import program_of
from training.problems.cleaning import decontaminated, deduplicated
from training.problems.collect import is_held_out
from training.problems.files import Record, file_problems, file_records
from training.problems.grader import Grader
from training.problems.problem import Problem
from training.problems.report import part_report
from training.published.formulae import awpc_program, mathqa_program, mawps_program
from training.published.gsm8k import gsm8k_program
from training.published.program import Program, Reason, Refused, step_texts
from training.records import Trajectory, write_json, write_records, write_trajectories


@dataclass(frozen=True, slots=True, kw_only=True)
class Notation:
    """How a data set writes its solutions."""

    help: str
    program: Callable[[Problem, Record], Program]
    """The program of a problem and its record. Raises `training.published.program.Refused`."""


def _gsm8k(problem: Problem, _: Record) -> Program:
    return gsm8k_program(problem.question, problem.solution or "", problem.answer)


def _mawps(problem: Problem, record: Record) -> Program:
    return mawps_program(problem.question, _field(record, "equation"))


def _awpc(problem: Problem, _: Record) -> Program:
    _check_whole(problem)
    return awpc_program(problem.question, problem.solution or "", problem.answer)


def _mathqa(problem: Problem, record: Record) -> Program:
    _check_whole(problem)
    return mathqa_program(problem.question, _field(record, "program"))


NOTATIONS: Mapping[str, Notation] = {
    "gsm8k": Notation(help="problems whose solutions mark computations like <<48/2=24>>", program=_gsm8k),
    "mawps": Notation(help="problems with an `equation` in one unknown, like 14 + X = 46", program=_mawps),
    "awpc": Notation(help="problems whose solutions work out one operation a line", program=_awpc),
    "mathqa": Notation(help="problems with a `program` of lines like t0 = n0 * 100.0", program=_mathqa),
}


def _field(record: Record, name: str) -> str:
    """A text of the record, or of its `extra`."""
    extra = record.get("extra")
    value = record.get(name, cast(Record, extra).get(name) if isinstance(extra, dict) else None)
    if not isinstance(value, str):
        raise Refused(Reason.NO_COMPUTATION)
    return value


def _check_whole(problem: Problem) -> None:
    if not _WHOLE.fullmatch(problem.answer):
        raise Refused(Reason.NOT_WHOLE)


_WHOLE = re.compile(r"-?\d+")
_PROGRAMS_TOGETHER = 50
"""Programs that one step of the sandbox runs, one after the other: a step takes 64 KiB of code."""
_HARNESS = """
import contextlib, io, json

def printed(program):
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            exec(program, {{}})
    except Exception:
        return None
    return output.getvalue().strip()

print(json.dumps([printed(program) for program in {programs!r}]))
"""


class Outcome(StrEnum):
    """What a program is worth."""

    RIGHT = "right"
    """It printed the known answer."""
    WRONG = "wrong"
    """It printed another one."""
    FAILED = "failed"
    """A step failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What is converted."""

    files: Mapping[str, Sequence[Path]]
    """By notation."""
    apart_from: Sequence[Path] = ()
    """Evaluation sets that training problems must not overlap with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A problem with a program that should solve it."""

    problem: Problem
    program: Program
    source: str
    """Of the trajectory that it becomes."""


def publish(sources: Sources, folder: Path) -> dict[str, Any]:
    """Write the files above, and return the report. Raises `training.problems.files.ProblemFileError`."""
    read = list(_read(sources.files))
    held_out = [one.problem for one in read if is_held_out(one.problem)]
    kept, cleaning = _cleaned(read, held_out, sources.apart_from)
    solved, refused = _converted(kept)
    verified = asyncio.run(_verified(solved))
    right = [one for one in verified if one.outcome is Outcome.RIGHT]
    doubtful = {one.solved.problem.id for one in verified if one.outcome is Outcome.WRONG}
    write_trajectories(folder / "solutions.jsonl", (_trajectory(one) for one in right))
    _write_problems(folder / "train", [one.problem for one in kept if one.problem.id not in doubtful])
    _write_problems(folder / "validation", held_out)
    report = {"problems": cleaning, "programs": _counts(kept, refused, verified)}
    write_json(folder / "report.json", report)
    return report


def summary(report: Mapping[str, Any]) -> str:
    """The counts of a report as a table."""
    rows = [
        f"{group:24}{counts['problems']:>10}{counts['converted']:>11}{counts['right']:>8}\n"
        for group, counts in report["programs"].items()
    ]
    return f"{'file':24}{'problems':>10}{'converted':>11}{'right':>8}\n{''.join(rows)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    """A problem, with its record and the notation of the solution in it."""

    problem: Problem
    record: Record
    notation: str


def _read(files: Mapping[str, Sequence[Path]]) -> Iterator[_Published]:
    for notation, paths in files.items():
        for path in paths:
            for problem, (_, record) in zip(file_problems(path), file_records(path), strict=True):
                yield _Published(problem=problem, record=record, notation=notation)


def _cleaned(
    read: Sequence[_Published], held_out: Sequence[Problem], apart_from: Sequence[Path]
) -> tuple[list[_Published], dict[str, Any]]:
    """The training problems that overlap with nothing, and the counts of the others."""
    evaluation_sets = {path.name: file_problems(path, needs_answers=False) for path in apart_from}
    distinct = deduplicated([one.problem for one in read if not is_held_out(one.problem)])
    clean = decontaminated(distinct.kept, {"validation": held_out, **evaluation_sets})
    groups = Counter(one.problem.group for one in read)
    report = part_report(groups, clean.kept, duplicates=distinct.duplicates, overlaps=clean.overlaps, unanswered={})
    ids = {problem.id for problem in clean.kept}
    return [one for one in read if one.problem.id in ids], report


def _converted(kept: Iterable[_Published]) -> tuple[list[Solved], dict[str, Counter[str]]]:
    """The programs, and by group why there is none."""
    solved: list[Solved] = []
    refused: dict[str, Counter[str]] = {}
    for one in kept:
        try:
            program = NOTATIONS[one.notation].program(one.problem, one.record)
        except Refused as refusal:
            refused.setdefault(one.problem.group, Counter())[refusal.reason.value] += 1
        else:
            solved.append(Solved(problem=one.problem, program=program, source=f"published: {one.notation}"))
    return solved, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """A program that ran."""

    solved: Solved
    outcome: Outcome
    output: str


async def _verified(solved: Sequence[Solved]) -> list[_Verified]:
    """Run the programs, and compare what they print with the known answers."""
    verified: list[_Verified] = []
    sandbox = Sandbox(limits=STEP_LIMITS, min_level=wanted_level(os.environ))
    async with sandbox, sandbox.tree() as tree, EqualityPool() as equality:
        grader = Grader(equality)
        for start in range(0, len(solved), _PROGRAMS_TOGETHER):
            together = solved[start : start + _PROGRAMS_TOGETHER]
            programs = [program_of(step_texts(one.program)) for one in together]
            result = await tree.run(None, _HARNESS.format(programs=programs))
            assert result.outcome is StepOutcome.OK, result.error
            for one, output in zip(together, json.loads(result.stdout), strict=True):
                verified.append(await _graded(one, output, grader))
    return verified


async def _graded(one: Solved, output: str | None, grader: Grader) -> _Verified:
    if output is None:
        return _Verified(solved=one, outcome=Outcome.FAILED, output="")
    is_right = await grader.is_right(one.problem, output)
    return _Verified(solved=one, outcome=Outcome.RIGHT if is_right else Outcome.WRONG, output=output)


def _trajectory(one: _Verified) -> Trajectory:
    problem = one.solved.problem
    return Trajectory(
        problem_id=problem.id,
        group=problem.group,
        question=problem.question,
        steps=step_texts(one.solved.program),
        output=one.output,
        answer=one.output,
        is_right=True,
        source=one.solved.source,
    )


def _write_problems(folder: Path, problems: Iterable[Problem]) -> None:
    """One file per group."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for problem in problems:
        groups.setdefault(problem.group, []).append(
            {"id": problem.id, "problem": problem.question, "answer": problem.answer}
        )
    for group, records in groups.items():
        write_records(folder / f"{group}.jsonl", records)


def _counts(
    kept: Iterable[_Published], refused: Mapping[str, Counter[str]], verified: Sequence[_Verified]
) -> dict[str, Any]:
    """By file."""
    outcomes: dict[str, Counter[Outcome]] = {}
    for one in verified:
        outcomes.setdefault(one.solved.problem.group, Counter())[one.outcome] += 1
    return {
        group: {
            "problems": count,
            "refused": dict(refused.get(group, {})),
            "converted": outcomes.get(group, Counter[Outcome]()).total(),
            **{outcome.value: outcomes.get(group, Counter[Outcome]())[outcome] for outcome in Outcome},
        }
        for group, count in Counter(one.problem.group for one in kept).items()
    }
