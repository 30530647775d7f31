"""Conversion: published solutions become verified step programs, and the problem files of a run.

    solutions.jsonl          training.records.Trajectory: every program ran in the sandbox and printed the known answer
    train/NAME.jsonl         training problems of the file NAME: `id`, `problem` and `answer`
    variants/NAME.jsonl      the same with other numbers, of problems whose program is right
    validation/NAME.jsonl    one problem in ten, by the hash of its id: `portion = "held_out"` of a recipe
    report.json              counts: read, left out for overlaps, converted, refused by reason, run, right

No solution of a validation problem is converted. Training problems that overlap with validation problems, or with the
evaluation sets that are named, are left out with their solutions. So are problems whose program prints another answer:
either the program or the label is wrong.
"""

import asyncio
import json
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from training.published.variants import variants
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
    variants: int = 0
    """Variants with other numbers of each solved problem, at most."""
    seed: int = 1
    """Draws the numbers of variants."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """A problem with a program that should solve it."""

    problem: Problem
    program: Program
    source: str
    """Of the trajectory that it becomes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verified:
    """A program that ran."""

    solved: Solved
    outcome: Outcome
    output: str


def publish(sources: Sources, folder: Path) -> dict[str, Any]:
    """Write the files above, and return the report. Raises `training.problems.files.ProblemFileError`."""
    read = list(_read(sources.files))
    held_out = [one.problem for one in read if is_held_out(one.problem)]
    known = {"validation": held_out} | {
        path.name: file_problems(path, needs_answers=False) for path in sources.apart_from
    }
    train, cleaning = _cleaned([one.problem for one in read if not is_held_out(one.problem)], known)
    train_ids = {problem.id for problem in train}
    solved, refused = _converted(one for one in read if one.problem.id in train_ids)
    verified = asyncio.run(_verified(solved))
    changed, changed_cleaning = _cleaned_variants(list(_with_other_numbers(_right(verified), sources)), train, known)
    verified_variants = asyncio.run(_verified(changed))
    right = [*_right(verified), *_right(verified_variants)]
    write_trajectories(folder / "solutions.jsonl", map(_trajectory, right))
    doubtful = {one.solved.problem.id for one in verified if one.outcome is Outcome.WRONG}
    _write_problems(folder / "train", (problem for problem in train if problem.id not in doubtful))
    _write_problems(folder / "variants", (one.solved.problem for one in _right(verified_variants)))
    _write_problems(folder / "validation", held_out)
    report = {
        "problems": cleaning,
        "programs": _counts(train, refused, verified),
        "variants": changed_cleaning
        | {"right": Counter(one.solved.problem.group for one in _right(verified_variants))},
    }
    write_json(folder / "report.json", report)
    return report


def summary(report: Mapping[str, Any]) -> str:
    """The counts of a report as a table."""
    lines = [("file", "problems", "converted", "right", "variants")]
    for group, counts in report["programs"].items():
        variants = report["variants"]["right"].get(group, 0)
        lines.append((group, counts["problems"], counts["converted"], counts["right"], variants))
    return "".join(f"{name:24}{''.join(f'{cell:>11}' for cell in cells)}\n" for name, *cells in lines)


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
    problems: Sequence[Problem], known: Mapping[str, Sequence[Problem]]
) -> tuple[list[Problem], dict[str, Any]]:
    """The training problems of different texts that overlap with no known problem, and the counts of the others."""
    distinct = deduplicated(problems)
    clean = decontaminated(distinct.kept, known)
    read = Counter(problem.group for problem in problems)
    report = part_report(read, clean.kept, duplicates=distinct.duplicates, overlaps=clean.overlaps, unanswered={})
    return clean.kept, report


def _with_other_numbers(right: Iterable[_Verified], sources: Sources) -> Iterator[Solved]:
    """The variants of solved problems."""
    for one in right if sources.variants else ():
        problem, program = one.solved.problem, one.solved.program
        rng = random.Random(f"{sources.seed}/{problem.id}")
        found = variants(problem.question, program, rng=rng, count=sources.variants)
        for number, variant in enumerate(found, start=1):
            yield Solved(
                problem=replace(
                    problem,
                    id=f"{problem.id}/{number}",
                    question=variant.question,
                    answer=variant.answer,
                    solution=None,
                ),
                program=variant.program,
                source=f"{one.solved.source}, other numbers",
            )


def _cleaned_variants(
    drawn: Sequence[Solved], train: Sequence[Problem], known: Mapping[str, Sequence[Problem]]
) -> tuple[list[Solved], dict[str, int]]:
    """The variants whose text is no training problem's and overlaps with no known one, and the counts of all."""
    distinct = {problem.id for problem in deduplicated([*train, *(one.problem for one in drawn)]).kept}
    new = [one for one in drawn if one.problem.id in distinct]
    clean = {problem.id for problem in decontaminated([one.problem for one in new], known).kept}
    kept = [one for one in new if one.problem.id in clean]
    return kept, {"drawn": len(drawn), "duplicates": len(drawn) - len(new), "overlaps": len(new) - len(kept)}


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


def _right(verified: Iterable[_Verified]) -> list[_Verified]:
    return [one for one in verified if one.outcome is Outcome.RIGHT]


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
    problems: Iterable[Problem], refused: Mapping[str, Counter[str]], verified: Sequence[_Verified]
) -> dict[str, dict[str, Any]]:
    """What became of the problems, by file."""
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
        for group, count in Counter(problem.group for problem in problems).items()
    }
