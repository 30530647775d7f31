"""Report: what was read, and what cleaning left out and why, as JSON with examples and as Markdown. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from training.problems.cleaning import Overlap, Rule
from training.problems.problem import Problem

_EXAMPLES = 3
"""Of each kind: enough to see whether a rule is right."""
_EXAMPLE_CHARS = 300
_HEADINGS = {
    Rule.EQUAL_TEXT: "equal text",
    Rule.OTHER_NUMBERS: "same text, other numbers",
    Rule.SHARED_RUN: "shared run of 10 words",
}


def part_report(
    read: Mapping[str, int],
    kept: Sequence[Problem],
    *,
    duplicates: Sequence[Overlap],
    overlaps: Mapping[str, Sequence[Overlap]],
    unanswered: Mapping[str, int],
) -> dict[str, Any]:
    """The record of one part of the problems (train, validation or test)."""
    return {
        "read": dict(read),
        "unanswered": {source: count for source, count in unanswered.items() if count},
        "duplicates": _counted(duplicates)
        | {"with_another_answer": sum(one.problem.answer != one.other.answer for one in duplicates)},
        "overlaps": {
            name: {rule.value: _counted([one for one in found if one.rule is rule]) for rule in Rule}
            for name, found in overlaps.items()
        },
        "left_out_for_overlaps": len({one.problem.id for found in overlaps.values() for one in found}),
        "kept": len(kept),
        "groups": dict(Counter(problem.group for problem in kept)),
        "labels": dict(Counter(problem.label.value for problem in kept)),
    }


def _counted(found: Sequence[Overlap]) -> dict[str, Any]:
    return {
        "count": len(found),
        "examples": [
            {
                "id": one.problem.id,
                "question": one.problem.question[:_EXAMPLE_CHARS],
                "other_id": one.other.id,
                "other_question": one.other.question[:_EXAMPLE_CHARS],
            }
            for one in found[:_EXAMPLES]
        ],
    }


def markdown(report: Mapping[str, Any]) -> str:
    """A table of the parts, and one of the overlaps with each evaluation set. Takes what `collect` wrote."""
    lines = [
        "| problems | read | no answer | duplicates | known to evaluation sets | kept |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, part in report.items():
        counts = (
            sum(part["read"].values()),
            sum(part["unanswered"].values()),
            part["duplicates"]["count"],
            part["left_out_for_overlaps"],
            part["kept"],
        )
        lines.append(f"| {name} | {' | '.join(map(str, counts))} |")
    headings = [_HEADINGS[rule] for rule in Rule]
    lines += ["", f"| left out | evaluation set | {' | '.join(headings)} |", "|---|---|" + "--:|" * len(headings)]
    for name, part in report.items():
        for evaluation_set, found in part["overlaps"].items():
            counts = (found[rule.value]["count"] for rule in Rule)
            lines.append(f"| {name} | {evaluation_set} | {' | '.join(map(str, counts))} |")
    return "\n".join(lines) + "\n"
