"""Confidence: sections on how far a confidence, and the PPM's score of a step, can be believed. Reads nothing.

The fit is made on validation problems and checked on test problems, beside the unfitted confidence (the vote share).
"""

from functools import partial

from training.evaluation.calibration import NothingToFit, calibrated, fit_calibration
from training.evaluation.figures import Confidence, claims, confidence_of, curve, step_scores
from training.evaluation.plots import Line, Scales, draw_lines, draw_reliability
from training.evaluation.solutions import Method
from training.evaluation.summary import confidence_text, reliability_table
from training.evaluation.tables import decimal, flat, table
from training.report.records import TEST, VALIDATION, Evaluation, RunRecords
from training.report.section import Figures, Section


def calibration(records: RunRecords) -> Section:
    """The best models' confidence: fitted on validation, checked on test."""
    title = "Confidence"
    validation, test = _best(records, VALIDATION), _best(records, TEST)
    if validation is None or test is None:
        return Section(title=title, text="The best models' search was not measured on validation and test problems.\n")
    try:
        fit = fit_calibration(validation.measured)
    except NothingToFit as error:
        return Section(title=title, text=f"The confidence was not fitted: {error}.\n")
    adjusted = partial(calibrated, fit)
    made = claims(test.measured)
    fitted, unfitted = confidence_of(made, adjusted=adjusted), confidence_of(made)
    if fitted is None or unfitted is None:
        return Section(title=title, text="The search gave no answer on the test problems.\n")
    figures: Figures = {
        "confidence/scale": fit.scale,
        "confidence/budget_slope": fit.budget_slope,
        "confidence/offset": fit.offset,
        "confidence/base_rate": fitted.base_rate,
        "confidence/brier_base_rate": fitted.brier.base_rate,
    }
    for name, quality in (("fitted", fitted), ("unfitted", unfitted)):
        figures |= _quality(f"confidence/{name}", quality)
    budgets: list[list[str]] = []
    for point in curve(test.measured, Method.MCTS):
        at = claims(test.measured, at=point.trajectories)
        pair = (confidence_of(at, adjusted=adjusted), confidence_of(at))
        errors = [None if one is None else one.error for one in pair]
        budgets.append([str(point.trajectories), *map(decimal, errors)])
        figures |= flat(f"confidence/fitted/at_{point.trajectories}/ece", errors[0])
    text = (
        f"`sigmoid({fit.scale:.3f} * logit(vote share) {fit.budget_slope:+.3f} * ln(trajectories) {fit.offset:+.3f})`, "
        f"fitted to {len(validation.measured)} validation problems and checked on {len(test.measured)} test problems "
        f"with {test.trajectories} trajectories.\n\n"
        f"Fitted: {confidence_text(fitted)}\nUnfitted: {confidence_text(unfitted)}\n{reliability_table(fitted)}\n"
        f"ECE by budget:\n\n{table(['trajectories', 'fitted', 'unfitted'], budgets)}"
    )
    tables = {"fitted on validation": fitted.bins, "vote share": unfitted.bins}
    draw = partial(draw_reliability, tables=tables, title="Confidence on test problems")
    return Section(title=title, text=text, figures=figures, plots={"reliability.png": draw})


def _best(records: RunRecords, split: str) -> Evaluation | None:
    """The best models on a split, by their search."""
    number = records.best_round
    found = None if number is None else records.rounds(split).get(number)
    return found if found is not None and found.has(Method.MCTS) else None


def _quality(name: str, quality: Confidence) -> dict[str, float]:
    return {
        **flat(f"{name}/ece", quality.error),
        **flat(f"{name}/auroc", quality.area),
        **flat(f"{name}/brier", quality.brier.score),
        **flat(f"{name}/brier_gain", quality.brier.gain),
    }


def steps(records: RunRecords) -> Section:
    """PPM scores against how trajectories end, by depth and round."""
    title = "PPM score against outcome"
    rounds = {number: one for number, one in records.rounds().items() if one.has(Method.MCTS)}
    found = {number: scores for number, one in rounds.items() if (scores := step_scores(one.measured))}
    if not found:
        return Section(title=title, text="No search with a PPM met both right and wrong trajectories.\n")
    figures: Figures = {}
    rows: list[list[str]] = []
    for number, scores in found.items():
        for one in scores:
            cells = [str(one.depth), str(one.steps), decimal(one.area), decimal(one.within)]
            rows.append([f"round {number}", *cells])
            name = f"steps/round_{number}/depth_{one.depth}"
            figures |= flat(f"{name}/auroc", one.area) | flat(f"{name}/auroc_within", one.within)
    text = (
        "AUROC: the chance that a step of a right trajectory has a higher score than one of a wrong trajectory, among "
        "all test problems and among the trajectories of one problem. A step counts once for each trajectory through "
        "it; depth 1 is the first step.\n\n"
    )
    header = ["PPM", "depth", "steps", "AUROC", "within a problem"]
    ticks = sorted({one.depth for scores in found.values() for one in scores})
    lines = [
        Line(label=f"round {number}", x=[one.depth for one in scores], y=[one.area for one in scores])
        for number, scores in found.items()
    ]
    scales = Scales(title=title, x="depth of the step", y="AUROC (%)", ticks=ticks)
    plots = {"steps.png": partial(draw_lines, lines=lines, scales=scales)}
    return Section(title=title, text=text + table(header, rows), figures=figures, plots=plots)
