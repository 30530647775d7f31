"""Rounds: sections on what each round learnt: coverage, policies alone, promotions, and what was spent. Reads nothing.

Coverage counts training problems with a right trajectory, always over all of them, so that rounds can be compared.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise

from training.evaluation.figures import gain, methods_of, share_of, solved, spending
from training.evaluation.intervals import Interval, paired_difference, share
from training.evaluation.plots import Line, Scales, draw_lines
from training.evaluation.solutions import Method
from training.evaluation.tables import flat, percent, points, table
from training.examples.labels import FIRST, Difficulty, Outcomes, difficulties
from training.report.records import RunRecords
from training.report.section import Figures, Section

_ALL = "all"


def coverage(records: RunRecords) -> Section:
    """Training problems with a right trajectory, by round: all, by difficulty in round 1, and by group."""
    title = "Coverage of the training problems"
    rounds = list(records.labels)
    if not rounds or not records.groups:
        return Section(title=title, text="No round has labels yet.\n")
    classes = _classes(records, first_round=rounds[0])
    header = ["problems", "count", *(f"round {number}" for number in rounds)]
    text = f"Share of the training problems with a right trajectory, in per cent. {_effort(records)}\n"
    figures: Figures = {}
    lines: list[Line] = []
    for by_first in (False, True):
        found = {name: _covered(records, members, by_first=by_first) for name, members in classes.items()}
        suffix = f"by_first_{FIRST}" if by_first else "share"
        for name, intervals in found.items():
            for number, interval in zip(rounds, intervals, strict=True):
                figures |= flat(f"coverage/{name}/round_{number}/{suffix}", interval)
        if by_first:
            text += f"\nThe same by the first {FIRST} trajectories of the first tree:\n"
        text += "\n" + table(header, [[name, str(len(classes[name])), *map(percent, found[name])] for name in classes])
        for name in classes if not by_first else [_ALL]:
            if name not in records.groups.values():
                label = f"first {FIRST} trajectories" if by_first else name
                lines.append(Line(label=label, x=rounds, y=found[name]))
    text += "\n" + _steps(records)
    scales = Scales(title=title, x="round", y="training problems solved (%)", ticks=rounds)
    plots = {"coverage.png": partial(draw_lines, lines=lines, scales=scales)}
    return Section(title=title, text=text, figures=figures, plots=plots)


def _classes(records: RunRecords, *, first_round: int) -> dict[str, list[str]]:
    """Problems by class, without empty classes; a class is named differently from every group."""
    hardness = difficulties(records.labels[first_round], records.groups)
    classes = {_ALL: list(records.groups)}
    for difficulty in Difficulty:
        classes[f"{difficulty} in round {first_round}"] = [one for one, hard in hardness.items() if hard is difficulty]
    for problem, group in records.groups.items():
        classes.setdefault(group, []).append(problem)
    return {name: members for name, members in classes.items() if members}


def _covered(records: RunRecords, members: Iterable[str], *, by_first: bool) -> list[Interval]:
    """The share in each round."""
    return [share(_solved(labels, members, by_first=by_first)) for labels in records.labels.values()]


def _solved(labels: Mapping[str, Outcomes], members: Iterable[str], *, by_first: bool) -> list[bool]:
    found = (labels.get(problem) for problem in members)
    return [one is not None and (one.right_of_first if by_first else one.right) > 0 for one in found]


def _effort(records: RunRecords) -> str:
    means = [
        f"{sum(one.trajectories for one in labels.values()) / len(labels):.1f} in round {number}"
        for number, labels in records.labels.items()
        if labels
    ]
    return f"Trajectories per problem: {', '.join(means)}."


def _steps(records: RunRecords) -> str:
    """From round to round, paired."""
    rounds = list(records.labels)
    rows: list[list[str]] = []
    for before, after in pairwise(rounds):
        changes: list[Interval] = []
        for by_first in (False, True):
            later, earlier = (
                _solved(records.labels[one], records.groups, by_first=by_first) for one in (after, before)
            )
            changes.append(paired_difference(later, earlier))
        rows.append([f"round {after} minus round {before}", *map(points, changes)])
    return table(["change, in points", "all trajectories", f"first {FIRST}"], rows) if rows else ""


def policies(records: RunRecords) -> Section:
    """pass@1 of each round's policy, against the round before and against the first."""
    title = "Policies alone"
    rounds = {number: one for number, one in records.rounds().items() if one.has(Method.GREEDY)}
    if not rounds:
        return Section(title=title, text="No policy was measured alone.\n")
    right = {number: solved(one.measured, Method.GREEDY) for number, one in rounds.items()}
    numbers = list(rounds)
    figures: Figures = {}
    rows: list[list[str]] = []
    for before, number in zip([None, *numbers], numbers, strict=False):
        interval = share_of(right[number])
        compared = [] if before is None else [right[before], right[numbers[0]]]
        changes = [gain(right[number], other) for other in compared] or [None, None]
        differences = [None if change is None else change.difference for change in changes]
        rows.append([f"round {number}", str(len(right[number])), percent(interval), *map(points, differences)])
        figures |= flat(f"greedy/round_{number}/share", interval)
        figures |= flat(f"greedy/round_{number}/gain_on_round_before", differences[0])
    header = ["policy", "problems", "pass@1", "minus the round before", f"minus round {numbers[0]}"]
    text = "Test problems solved by one greedy trajectory, in per cent; differences are paired, in points.\n\n"
    return Section(title=title, text=text + table(header, rows), figures=figures)


def promotions(records: RunRecords) -> Section:
    """Which models replaced the best ones so far."""
    title = "Promotions"
    if not records.promotions:
        return Section(title=title, text="No round was decided on.\n")
    figures: Figures = {}
    rows: list[list[str]] = []
    for one in records.promotions:
        decision = "promoted" if one.is_promoted else "refused"
        shares = [f"{100 * share:.1f}" for share in (one.candidate, one.incumbent)]
        rows.append([f"round {one.round}", f"round {one.over_round}", str(one.problems), *shares, decision])
        figures |= {
            f"promotion/round_{one.round}/candidate": one.candidate,
            f"promotion/round_{one.round}/incumbent": one.incumbent,
            f"promotion/round_{one.round}/is_promoted": float(one.is_promoted),
        }
    header = ["candidate", "incumbent", "problems", "candidate solves", "incumbent solves", "decision"]
    text = "Decided by the share of validation problems solved by search, in per cent. Test problems play no part.\n\n"
    return Section(title=title, text=text + table(header, rows), figures=figures)


def spent(records: RunRecords) -> Section:
    """Tokens and seconds of the measurements, and seconds of the stages."""
    title = "Tokens and seconds"
    figures: Figures = {}
    rows: list[list[str]] = []
    for one in records.evaluations:
        for method in methods_of(one.measured):
            cost = spending(one.measured, method)
            numbers = [f"{cost.trajectories:.1f}", f"{cost.tokens:.0f}", f"{cost.code_steps:.1f}"]
            rows.append([f"{one.name}: {method}", str(len(one.measured)), *numbers, f"{cost.seconds:.2f}"])
            figures |= {
                f"spent/{one.name}/{method}/tokens": cost.tokens,
                f"spent/{one.name}/{method}/trajectories": cost.trajectories,
                f"spent/{one.name}/{method}/seconds": cost.seconds,
            }
    text = ""
    if rows:
        text = "Means per problem; many searches ran at the same time.\n\n"
        text += table(["measurement", "problems", "trajectories", "tokens", "code steps", "seconds"], rows) + "\n"
    figures |= {f"seconds/{stage}": seconds for stage, seconds in records.seconds.items()}
    if records.seconds:
        text += f"Stages took {_duration(sum(records.seconds.values()))} in all.\n\n"
        text += table(["stage", "seconds"], [[stage, f"{took:.0f}"] for stage, took in records.seconds.items()])
    return Section(title=title, text=text or "Nothing was measured, and no stage is finished.\n", figures=figures)


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"
