"""Searches: sections on test problems solved by search: by trajectories, by policy and PPM, against other methods.

Everything is compared on the problems that all sides answered, paired. Reads nothing.
"""

from collections.abc import Mapping, Sequence
from functools import partial

from training.evaluation.attempts import budgets
from training.evaluation.figures import (
    CurvePoint,
    curve,
    gain,
    groups_of,
    methods_of,
    of_group,
    share_of,
    solved,
    spending,
)
from training.evaluation.intervals import Interval, errors_removed
from training.evaluation.plots import Line, Mark, Scales, draw_lines, draw_matrix
from training.evaluation.solutions import Method
from training.evaluation.tables import flat, percent, points, table
from training.report.records import TEST, Evaluation, RunRecords
from training.report.section import Figures, Section

_FEW = 8
"""Trajectories by which most of the gain of search should be there (the paper, figure 3)."""


def trajectories(records: RunRecords) -> Section:
    """Share solved by each round's search, by trajectories, and the errors of the first policy that search removes."""
    title = "Search by trajectories"
    rounds = {number: one for number, one in records.rounds().items() if one.has(one.search)}
    curves = {number: found for number, one in rounds.items() if (found := curve(one.measured, one.search))}
    if not curves:
        return Section(title=title, text="No search was measured on the test problems.\n")
    figures: Figures = {}
    for number, found in curves.items():
        for point in found:
            name = f"search/round_{number}/at_{point.trajectories}"
            figures |= flat(f"{name}/share", point.share) | flat(f"{name}/pass_at_k", point.coverage)
    ticks = budgets(max(found[-1].trajectories for found in curves.values()))
    names = {number: _named(number, rounds[number]) for number in curves}
    rows = [[str(tick), *(percent(_share_at(found, tick)) for found in curves.values())] for tick in ticks]
    text = "Test problems solved, in per cent.\n\n" + table(["trajectories", *names.values()], rows)
    best = records.best_round
    marks: list[Mark] = []
    if best is not None and best in curves:
        text += "\n" + _gains(rounds[best], curves[best], figures) + _removed(rounds, best, figures)
        marks = _marks(rounds[best])
    lines = [
        Line(label=names[number], x=[one.trajectories for one in found], y=[one.share for one in found])
        for number, found in curves.items()
    ]
    scales = Scales(title=title, x="trajectories per problem", ticks=ticks, is_log=True)
    draw = partial(draw_lines, lines=lines, scales=scales, marks=marks)
    return Section(title=title, text=text, figures=figures, plots={"trajectories.png": draw})


def _named(number: int, evaluation: Evaluation) -> str:
    return f"round {number}" if evaluation.search is Method.MCTS else f"round {number}, no PPM"


def _share_at(found: Sequence[CurvePoint], tick: int) -> Interval | None:
    return next((point.share for point in found if point.trajectories == tick), None)


def _gains(best: Evaluation, found: Sequence[CurvePoint], figures: Figures) -> str:
    """What each doubling of the trajectories gains, paired, and the rate of any right trajectory."""
    rows: list[list[str]] = []
    for before, after in zip([None, *found], found, strict=False):
        change = None
        if before is not None:
            sides = (solved(best.measured, best.search, at=one.trajectories) for one in (after, before))
            gained = gain(*sides)
            change = None if gained is None else gained.difference
            figures |= flat(f"search/best/at_{after.trajectories}/gain_on_half", change)
        tokens = "–" if after.tokens is None else f"{after.tokens:.0f}"
        made = f"{after.made:.1f}"
        rows.append([str(after.trajectories), made, tokens, points(change), percent(after.coverage)])
        figures[f"search/best/at_{after.trajectories}/made"] = after.made
    header = ["trajectories", "made", "tokens", "gain on half of them", "some trajectory is right"]
    text = (
        f"Round {best.policy_round}, the best models. A search makes fewer trajectories than it may where its tree "
        f"holds nothing new: more candidates per step widen it.\n\n{table(header, rows)}\n"
    )
    first, last, few = found[0], found[-1], _share_at(found, _FEW)
    if few is not None and (whole := last.share.estimate - first.share.estimate) > 0:
        part = (few.estimate - first.share.estimate) / whole
        figures["search/best/part_of_gain_by_8"] = part
        text += f"{100 * part:.0f} % of the gain from 1 to {last.trajectories} trajectories is there by {_FEW}.\n\n"
    return text


def _removed(rounds: Mapping[int, Evaluation], best: int, figures: Figures) -> str:
    """How many errors of the first policy the best search does not make."""
    base = min(rounds)
    if not rounds[base].has(Method.GREEDY):
        return ""
    before, after = solved(rounds[base].measured, Method.GREEDY), solved(rounds[best].measured, rounds[best].search)
    both = [problem for problem in after if problem in before]
    removed = errors_removed([before[one] for one in both], [after[one] for one in both])
    if removed is None:
        return ""
    figures |= flat("search/best/errors_of_base_removed", removed)
    return (
        f"The search of round {best} removes {percent(removed)} % of the errors that the policy of round {base} makes "
        f"alone, on {len(both)} problems.\n"
    )


def _marks(best: Evaluation) -> list[Mark]:
    """The other methods with the best models, each at the mean number of its trajectories."""
    others = [method for method in methods_of(best.measured) if method not in (Method.MCTS, Method.MCTS_CONSTANT)]
    return [
        Mark(
            label=f"{method}, round {best.policy_round}",
            x=spending(best.measured, method).trajectories,
            y=share_of(solved(best.measured, method)),
        )
        for method in others
    ]


def matrix(records: RunRecords) -> Section:
    """Every policy with every PPM, at the largest budget that all of them have, on the problems that all answered."""
    title = "Policies with PPMs"
    cells = _cells(records.evaluations)
    rows, columns = (sorted({cell[side] for cell in cells}) for side in (0, 1))
    if len(cells) <= max(len(rows), len(columns)):
        return Section(title=title, text="Policies were not measured with the PPMs of other rounds.\n")
    reached = [{point.trajectories for point in curve(one.measured, Method.MCTS)} for one in cells.values()]
    budget = max(reached[0].intersection(*reached), default=0)
    answered = [set(one.measured) for one in cells.values()]
    problems = answered[0].intersection(*answered)
    if not budget or not problems:
        return Section(title=title, text="Policies and PPMs were not measured on the same problems.\n")
    shares: dict[tuple[int, int], Interval] = {}
    for cell, one in cells.items():
        outcomes = solved(one.measured, Method.MCTS, at=budget)
        shares[cell] = share_of({name: outcomes[name] for name in sorted(problems) if name in outcomes})
    grid = [[shares.get((row, column)) for column in columns] for row in rows]
    across, down = [f"PPM {column}" for column in columns], [f"policy {row}" for row in rows]
    what = f"{len(problems)} test problems, {budget} trajectories"
    figures: Figures = {"matrix/problems": len(problems), "matrix/trajectories": budget}
    for (row, column), interval in shares.items():
        figures |= flat(f"matrix/policy_{row}/ppm_{column}", interval)
    lines = [[name, *map(percent, found)] for name, found in zip(down, grid, strict=True)]
    text = f"Share solved by the search of a policy with a PPM, in per cent: {what}.\n\n{table(['', *across], lines)}"
    draw = partial(draw_matrix, cells=grid, rows=down, columns=across, title=f"{title}: {what}")
    return Section(title=title, text=text, figures=figures, plots={"matrix.png": draw})


def _cells(evaluations: Sequence[Evaluation]) -> dict[tuple[int, int], Evaluation]:
    """By policy round and PPM round. Of several the one with fewest problems: the others have to be cut to them."""
    found: dict[tuple[int, int], Evaluation] = {}
    for one in sorted(evaluations, key=lambda one: -len(one.measured)):
        is_cell = one.split == TEST and one.ppm_kind == "ppm" and one.has(Method.MCTS)
        if is_cell and one.policy_round is not None and one.ppm_round is not None:
            found[one.policy_round, one.ppm_round] = one
    return found


def methods(records: RunRecords) -> Section:
    """The best models' search against other methods and other reward models, at equal tokens."""
    title = "Methods and reward models at equal tokens"
    best = records.rounds().get(records.best_round) if records.best_round is not None else None
    if best is None or not best.has(Method.MCTS) or len(methods_of(best.measured)) < 2:
        return Section(title=title, text="The best models were measured by one method only.\n")
    ours = solved(best.measured, Method.MCTS)
    sides = [(best, method, str(method)) for method in methods_of(best.measured)]
    for rival in records.rivals(best.policy_round or 0):
        sides += [(rival, method, f"{method}, {str(rival.ppm_kind).upper()}") for method in methods_of(rival.measured)]
    figures: Figures = {}
    rows: list[list[str]] = []
    for evaluation, method, name in sides:
        theirs, cost = solved(evaluation.measured, method), spending(evaluation.measured, method)
        gained = None if evaluation is best and method is Method.MCTS else gain(ours, theirs)
        difference = None if gained is None else gained.difference
        rows.append([name, str(len(theirs)), percent(share_of(theirs)), points(difference), f"{cost.tokens:.0f}"])
        key = f"methods/{evaluation.ppm_kind}/{method}"
        figures |= flat(f"{key}/share", share_of(theirs)) | flat(f"{key}/mcts_gain", difference)
        figures[f"{key}/tokens"] = cost.tokens
    text = (
        f"Round {best.policy_round} on test problems: share solved in per cent, and how much more `mcts` with the PPM "
        "solves, paired, in points. Majority and best of n generate at least as many tokens on each problem "
        "as `mcts` with the PPM. So do searches with a PQM (trained on Q values) or an ORM (trained on outcomes).\n\n"
    )
    header = ["method", "problems", "share solved", "mcts minus this", "tokens"]
    return Section(title=title, text=text + table(header, rows), figures=figures)


def groups(records: RunRecords) -> Section:
    """The best models against the first ones, by group of problems and on further test sets."""
    title = "By group"
    best = records.best_round
    rows: list[list[str]] = []
    figures: Figures = {}
    for split in (TEST, *records.further_splits()):
        rounds = {number: one for number, one in records.rounds(split).items() if one.has(one.search)}
        if best not in rounds or min(rounds) == best:
            continue
        first, last = rounds[min(rounds)], rounds[best]
        rows += [_group_row(split, group, first, last, figures) for group in groups_of(last.measured)]
    if not rows:
        return Section(title=title, text="The best models and the first were not both measured by search.\n")
    header = ["problems", "count", "first policy", "first search", "best policy", "best search", "search gains"]
    text = "Share solved in per cent. The gain is that of the best search on the first search, paired, in points.\n\n"
    return Section(title=title, text=text + table(header, rows), figures=figures)


def _group_row(split: str, group: str, first: Evaluation, last: Evaluation, figures: Figures) -> list[str]:
    name = group if split == TEST else f"{split}: {group}"
    shares: list[str] = []
    searched: list[dict[str, bool]] = []
    for label, evaluation in (("first", first), ("best", last)):
        chosen = of_group(evaluation.measured, group)
        for method in (Method.GREEDY, evaluation.search):
            found = solved(chosen, method)
            interval = share_of(found) if found else None
            shares.append(percent(interval))
            figures |= flat(f"groups/{split}/{group}/{label}_{method}", interval)
        searched.append(solved(chosen, evaluation.search))
    gained = gain(searched[1], searched[0])
    difference = None if gained is None else gained.difference
    figures |= flat(f"groups/{split}/{group}/search_gain", difference)
    return [name, str(len(searched[1])), *shares, points(difference)]
