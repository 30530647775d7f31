"""Summary: one measurement as flat figures for programs and as Markdown for people. Reads and writes no files.

Names of figures are paths such as `gcd/mcts/share` or `all/mcts/at_8/share`; shares are numbers from 0 to 1.
"""

import platform
from importlib.metadata import PackageNotFoundError, version

from search import StopReason
from training.evaluation.attempts import budgets
from training.evaluation.figures import (
    Confidence,
    Measured,
    attempts_of,
    claims,
    confidence_of,
    coverage_at,
    curve,
    gain,
    groups_of,
    methods_of,
    of_group,
    share_of,
    solved,
    spending,
)
from training.evaluation.measure import PRICED
from training.evaluation.solutions import Method
from training.evaluation.tables import decimal, flat, percent, points, table

ALL = "all"
"""Stands for all groups of problems together."""

_LIBRARIES = ("torch", "transformers", "reasoning-gym")


def flat_figures(measured: Measured) -> dict[str, float | str]:
    """Every figure, with machine and versions."""
    figures: dict[str, float | str] = {}
    for group in (*groups_of(measured), ALL):
        chosen = measured if group == ALL else of_group(measured, group)
        figures[f"{group}/problems"] = len(chosen)
        for method in methods_of(measured):
            figures |= {f"{group}/{method}/{name}": value for name, value in _method_figures(chosen, method).items()}
    figures |= _curve_figures(measured) | _confidence_figures(measured)
    figures["machine"] = f"{platform.machine()} {platform.system()}"
    return figures | library_versions()


def library_versions() -> dict[str, str]:
    """Versions of the libraries that figures may depend on."""
    found: dict[str, str] = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _method_figures(measured: Measured, method: Method) -> dict[str, float]:
    outcomes = solved(measured, method)
    interval, spent = share_of(outcomes), spending(measured, method)
    figures = {"share": interval.estimate, "low": interval.low, "high": interval.high}
    if method is not Method.MCTS and (gained := gain(solved(measured, Method.MCTS), outcomes)) is not None:
        figures |= flat("mcts_gain", gained.difference)
    return figures | {
        "any_right": sum(attempt.any_right for attempt in attempts_of(measured, method)) / len(outcomes),
        "tokens": spent.tokens,
        "trajectories": spent.trajectories,
        "code_steps": spent.code_steps,
        "seconds": spent.seconds,
    }


def _curve_figures(measured: Measured) -> dict[str, float]:
    figures: dict[str, float] = {}
    for method in (Method.MCTS, Method.MCTS_CONSTANT):
        for point in curve(measured, method):
            name = f"{ALL}/{method}/at_{point.trajectories}"
            figures |= flat(f"{name}/share", point.share) | flat(f"{name}/pass_at_k", point.coverage)
            if point.tokens is not None:
                figures[f"{name}/tokens"] = point.tokens
    for trajectories in budgets(_most_trajectories(measured)):
        interval = coverage_at(measured, Method.MAJORITY, trajectories)
        figures |= flat(f"{ALL}/{Method.MAJORITY}/at_{trajectories}/pass_at_k", interval)
    return figures


def _confidence_figures(measured: Measured) -> dict[str, float]:
    quality = confidence_of(claims(measured))
    if quality is None:
        return {}
    name = f"{ALL}/{Method.MCTS}"
    return {
        **flat(f"{name}/ece", quality.error),
        **flat(f"{name}/auroc", quality.area),
        **flat(f"{name}/brier", quality.brier.score),
        f"{name}/brier_base_rate": quality.brier.base_rate,
    }


def _most_trajectories(measured: Measured) -> int:
    return max((point.trajectories for point in curve(measured, Method.MCTS)), default=1)


def markdown(measured: Measured) -> str:
    """The measurement as a document."""
    sections = [
        "# Evaluation\n",
        f"{len(measured)} problems. Intervals are 95 % bootstrap intervals over problems.\n",
        "## Share solved, in per cent\n",
        _group_table(measured),
        "## All problems\n",
        _method_table(measured),
        *_notes(measured),
    ]
    if points_on_curve := _curve_table(measured):
        sections += ["## By trajectories\n", points_on_curve]
    if quality := confidence_of(claims(measured)):
        sections += ["## Confidence of mcts\n", confidence_text(quality), reliability_table(quality)]
    return "\n".join(sections)


def _group_table(measured: Measured) -> str:
    methods = methods_of(measured)
    rows: list[list[str]] = []
    for group in (*groups_of(measured), ALL):
        chosen = measured if group == ALL else of_group(measured, group)
        shares = [f"{100 * share_of(solved(chosen, method)).estimate:.1f}" for method in methods]
        rows.append([group, str(len(chosen)), *shares])
    return table(["problems", "count", *methods], rows)


def _method_table(measured: Measured) -> str:
    rows: list[list[str]] = []
    for method in methods_of(measured):
        outcomes, spent = solved(measured, method), spending(measured, method)
        gained = None if method is Method.MCTS else gain(solved(measured, Method.MCTS), outcomes)
        any_right = sum(attempt.any_right for attempt in attempts_of(measured, method)) / len(outcomes)
        rows.append(
            [
                method,
                percent(share_of(outcomes)),
                points(None if gained is None else gained.difference),
                f"{100 * any_right:.1f}",
                f"{spent.trajectories:.1f}",
                f"{spent.tokens:.0f}",
                f"{spent.code_steps:.1f}",
                f"{spent.seconds:.2f}",
            ]
        )
    header = [
        "method",
        "share solved",
        "mcts minus this",
        "any right",
        "trajectories",
        "tokens",
        "code steps",
        "seconds",
    ]
    return table(header, rows) + "\nTokens, steps and seconds are means per problem, with other searches running.\n"


def _notes(measured: Measured) -> list[str]:
    """What a reader has to know about attempts that ended otherwise than planned."""
    notes: list[str] = []
    for method in methods_of(measured):
        attempts = attempts_of(measured, method)
        late = sum(attempt.stop_reason in (StopReason.DEADLINE, StopReason.CANCELLED) for attempt in attempts)
        if late:
            notes.append(f"{method} was stopped by a time limit on {late} problems.\n")
    if Method.MCTS in methods_of(measured):
        for method in PRICED.intersection(methods_of(measured)):
            pairs = [(one[method].tokens, one[Method.MCTS].tokens) for one in measured.values()]
            if cheaper := sum(tokens < price for tokens, price in pairs):
                notes.append(f"{method} generated fewer tokens than mcts on {cheaper} problems.\n")
    return notes


def _curve_table(measured: Measured) -> str | None:
    rows: list[list[str]] = []
    for point in curve(measured, Method.MCTS):
        sampled = coverage_at(measured, Method.MAJORITY, point.trajectories)
        tokens = "–" if point.tokens is None else f"{point.tokens:.0f}"
        shares = [percent(one) for one in (point.share, point.coverage, sampled)]
        rows.append([str(point.trajectories), f"{point.made:.1f}", tokens, *shares])
    header = ["trajectories", "made", "tokens", "mcts", "mcts pass@k", "sampling pass@k"]
    return table(header, rows) if rows else None


def confidence_text(quality: Confidence) -> str:
    """The figures of one confidence in words."""
    scores = quality.brier
    return (
        f"{quality.claims} answers, {100 * quality.base_rate:.1f} % right. ECE {decimal(quality.error)}, "
        f"AUROC {decimal(quality.area)}, Brier {decimal(scores.score)} (base rate {scores.base_rate:.3f}, "
        f"gain {decimal(scores.gain)}).\n"
    )


def reliability_table(quality: Confidence) -> str:
    """Mean confidence against the share of right answers, bin by bin."""
    rows = [
        [f"{one.low:.3f}–{one.high:.3f}", str(one.problems), f"{100 * one.confidence:.1f}", percent(one.share)]
        for one in quality.bins
    ]
    return table(["confidence", "answers", "mean confidence", "share right"], rows)
