"""A summary names every figure, and says where methods did not get what they should have got."""

from dataclasses import replace

import pytest

from search import StopReason
from tests.training.evaluation.attempting import an_attempt, measured
from training.evaluation.solutions import Method
from training.evaluation.summary import flat_figures, markdown

TWO = measured(
    an_attempt("a/0", right_from=2, confidence=0.75),
    an_attempt("b/0", right_from=4, confidence=0.75),
    an_attempt("a/0", Method.MAJORITY, right_from=1, tokens=120),
    an_attempt("b/0", Method.MAJORITY, right_from=None, tokens=120),
    an_attempt("a/0", Method.GREEDY, budgets=(1,)),
    an_attempt("b/0", Method.GREEDY, right_from=None, budgets=(1,)),
)


def test_figures_are_flat_and_named_by_group_and_method() -> None:
    figures = flat_figures(TWO)
    assert all(isinstance(value, int | float | str) for value in figures.values())
    assert figures["all/problems"] == 2
    assert figures["all/mcts/share"] == 1.0
    assert figures["a/greedy/share"] == 1.0
    assert figures["b/greedy/mcts_gain"] == 1.0
    assert figures["all/majority/tokens"] == 120
    assert figures["all/mcts/at_2/share"] == 0.5
    assert figures["all/mcts/at_1/share"] == 0.0
    assert figures["all/mcts/at_4/tokens"] == 100
    assert figures["all/majority/at_2/pass_at_k"] == pytest.approx(0.25)
    assert figures["all/mcts/ece"] == pytest.approx(0.25)
    assert "all/mcts/auroc" not in figures  # all answers are right
    assert {"machine", "torch"} <= figures.keys()


def test_the_document_has_a_row_for_each_method() -> None:
    document = markdown(TWO)
    for expected in ("| all ", "| mcts ", "| majority ", "| greedy ", "## By trajectories", "## Confidence of mcts"):
        assert expected in document
    assert "fewer tokens" not in document
    assert "time limit" not in document


def test_methods_that_got_less_are_named() -> None:
    cheaper = an_attempt("a/0", Method.MAJORITY, tokens=90)
    late = replace(an_attempt("b/0", Method.GREEDY, budgets=(1,)), stop_reason=StopReason.DEADLINE)
    document = markdown({**TWO, **measured(*{**TWO["a/0"], Method.MAJORITY: cheaper}.values())})
    assert "majority generated fewer tokens than mcts on 1 problems" in document
    document = markdown({**TWO, **measured(*{**TWO["b/0"], Method.GREEDY: late}.values())})
    assert "greedy was stopped by a time limit on 1 problems" in document


def test_a_measurement_without_mcts_has_shares_only() -> None:
    document = markdown(measured(an_attempt("a/0", Method.GREEDY, budgets=(1,))))
    assert "| greedy " in document
    assert "## By trajectories" not in document
    assert "## Confidence" not in document
