"""Sections: figures are those of the records; what is missing is said in a sentence."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.evaluation.attempting import an_attempt, measured
from tests.training.report.a_run import write_run
from training.evaluation.solutions import Method
from training.examples.labels import Outcomes
from training.recipe import Label
from training.report.confidence import calibration, steps
from training.report.records import Evaluation, Promotion, RunRecords, read_run
from training.report.report import SECTIONS
from training.report.rounds import coverage, policies, promotions
from training.report.searches import groups, matrix, methods, trajectories
from training.report.section import Section


def _outcomes(problem: str, right: int, *, right_of_first: int = 0, trajectories: int = 8) -> Outcomes:
    return Outcomes(
        problem_id=problem,
        label=Label.EXACT,
        trajectories=trajectories,
        right=right,
        right_of_first=right_of_first,
    )


def _evaluation(number: int, *attempts: tuple[str, Method, int | None], **changes: object) -> Evaluation:
    made = [an_attempt(name, method, right_from=right_from) for name, method, right_from in attempts]
    evaluation = Evaluation(
        name=f"round-{number}",
        split="test",
        policy_round=number,
        ppm_round=number,
        ppm_kind="ppm",
        trajectories=4,
        measured=measured(*made),
    )
    return replace(evaluation, **changes)


PROMOTED = Promotion(round=1, over_round=0, candidate=0.9, incumbent=0.8, problems=10, is_promoted=True)
BASE = _evaluation(
    0,
    ("a/0", Method.GREEDY, None),
    ("a/1", Method.GREEDY, None),
    ("b/0", Method.GREEDY, 1),
    ("b/1", Method.GREEDY, None),
    ("a/0", Method.MCTS, None),
    ("a/1", Method.MCTS, 4),
    ("b/0", Method.MCTS, 1),
    ("b/1", Method.MCTS, None),
)
BEST = _evaluation(
    1,
    ("a/0", Method.GREEDY, 1),
    ("a/1", Method.GREEDY, None),
    ("b/0", Method.GREEDY, 1),
    ("b/1", Method.GREEDY, None),
    ("a/0", Method.MCTS, 1),
    ("a/1", Method.MCTS, 4),
    ("b/0", Method.MCTS, 2),
    ("b/1", Method.MCTS, None),
)
TWO_ROUNDS = RunRecords(evaluations=[BASE, BEST], promotions=[PROMOTED])


@pytest.mark.parametrize("make", SECTIONS)
def test_a_section_without_records_is_one_sentence(make: Callable[[RunRecords], Section]) -> None:
    section = make(RunRecords())
    assert section.text.endswith(".\n")
    assert section.text.count("\n") == 1
    assert (section.figures, section.plots) == ({}, {})


def test_coverage_is_counted_over_all_training_problems() -> None:
    records = RunRecords(
        groups={"a/0": "a", "a/1": "a", "b/0": "b", "b/1": "b"},
        labels={
            1: {"a/0": _outcomes("a/0", 8, right_of_first=8), "a/1": _outcomes("a/1", 2), "b/0": _outcomes("b/0", 0)},
            2: {name: _outcomes(name, 3, right_of_first=1) for name in ("a/0", "a/1", "b/0")},
        },
    )
    figures = coverage(records).figures
    assert figures["coverage/all/round_1/share"] == 0.5
    assert figures["coverage/all/round_2/share"] == 0.75
    assert figures["coverage/all/round_1/by_first_8"] == 0.25
    assert figures["coverage/easy in round 1/round_2/share"] == 1.0
    assert figures["coverage/hard in round 1/round_1/share"] == 0.0  # b/0, and b/1, which was not searched
    assert figures["coverage/hard in round 1/round_2/share"] == 0.5
    assert figures["coverage/b/round_2/share"] == 0.5
    assert "| round 2 minus round 1 | +25.0" in coverage(records).text


def test_policies_are_compared_with_the_round_before() -> None:
    section = policies(TWO_ROUNDS)
    assert section.figures["greedy/round_0/share"] == 0.25
    assert section.figures["greedy/round_1/gain_on_round_before"] == 0.25


def test_search_is_told_by_trajectories_and_errors_removed() -> None:
    section = trajectories(TWO_ROUNDS)
    shares = [section.figures[f"search/round_1/at_{count}/share"] for count in (1, 2, 4)]
    assert shares == [0.25, 0.5, 0.75]
    assert section.figures["search/best/at_4/gain_on_half"] == 0.25
    # The base's greedy policy fails three problems; the best search solves two of them.
    assert section.figures["search/best/errors_of_base_removed"] == pytest.approx(2 / 3)
    assert list(section.plots) == ["trajectories.png"]


def test_the_matrix_compares_what_all_cells_have() -> None:
    across = _evaluation(0, ("a/0", Method.MCTS, 1), ("a/1", Method.MCTS, None), ppm_round=1)
    back = _evaluation(1, ("a/0", Method.MCTS, 1), ("b/1", Method.MCTS, None), ("a/1", Method.MCTS, 1), ppm_round=0)
    section = matrix(replace(TWO_ROUNDS, evaluations=[BASE, BEST, across, back]))
    assert section.figures["matrix/problems"] == 2
    assert section.figures["matrix/trajectories"] == 4
    cells = {(i, j): section.figures[f"matrix/policy_{i}/ppm_{j}"] for i in (0, 1) for j in (0, 1)}
    assert cells == {(0, 0): 0.5, (0, 1): 0.5, (1, 0): 1.0, (1, 1): 1.0}


def test_a_diagonal_alone_is_no_matrix() -> None:
    assert "not measured with the PPMs of other rounds" in matrix(TWO_ROUNDS).text


def test_other_reward_models_are_compared_paired() -> None:
    rival = _evaluation(1, ("a/0", Method.BEST_OF_N, None), ("a/1", Method.BEST_OF_N, 1), ppm_kind="orm", name="orm")
    section = methods(replace(TWO_ROUNDS, evaluations=[BASE, BEST, rival]))
    assert section.figures["methods/orm/best_of_n/share"] == 0.5
    assert section.figures["methods/orm/best_of_n/mcts_gain"] == 0.5
    assert section.figures["methods/ppm/greedy/mcts_gain"] == 0.25
    assert "| best_of_n, ORM |        2 |" in section.text


def test_groups_compare_the_best_search_with_the_first() -> None:
    section = groups(TWO_ROUNDS)
    assert section.figures["groups/test/a/search_gain"] == 0.5
    assert section.figures["groups/test/b/search_gain"] == 0.0
    further = [replace(one, split="harder") for one in (BASE, BEST)]
    assert "harder: a" in groups(replace(TWO_ROUNDS, evaluations=[BASE, BEST, *further])).text


def test_a_refused_round_is_shown_and_not_compared() -> None:
    refused = replace(TWO_ROUNDS, promotions=[replace(PROMOTED, is_promoted=False)])
    assert "refused" in promotions(refused).text
    assert "not both measured" in groups(refused).text
    assert "search/best/errors_of_base_removed" in trajectories(refused).figures  # of the base's own search


def test_confidence_is_fitted_on_validation_and_checked_on_test(tmp_path: Path) -> None:
    write_run(tmp_path, problems=60)
    section = calibration(read_run(tmp_path))
    fitted, unfitted = (section.figures[f"confidence/{name}/ece"] for name in ("fitted", "unfitted"))
    assert float(fitted) < float(unfitted)
    assert {"confidence/scale", "confidence/fitted/auroc", "confidence/fitted/brier_gain"} <= section.figures.keys()
    assert "fitted to 60 validation problems and checked on 60 test problems" in section.text
    assert list(section.plots) == ["reliability.png"]


def test_step_scores_are_judged_by_round_and_depth(tmp_path: Path) -> None:
    write_run(tmp_path, problems=20)
    section = steps(read_run(tmp_path))
    assert "steps/round_2/depth_3/auroc_within" in section.figures
    assert float(section.figures["steps/round_0/depth_1/auroc"]) > 0.6
