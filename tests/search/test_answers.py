"""Answers: votes, weights and confidence; classes of equal answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.answers import AnswerClasses, Ballot, Pair, Standing, ballots, count_votes
from search.config import Calibration, Selection
from search.outcomes import CandidateStop, NodeOutcome, Verdict
from search.protocols import PathStep
from search.tree import ROOT, Node, NodeId, Tree


def ballot(node_id: int, answer: str, score: float | None = None) -> Ballot:
    return Ballot(node_id=NodeId(node_id), answer=answer, score=score)


def count(
    *cast: Ballot,
    failures: int = 0,
    selection: Selection = Selection.WEIGHTED_VOTE,
    top_k: int | None = None,
) -> Standing:
    """Answers are equal when their first letters are."""
    classes = {b.answer: ord(b.answer[0]) for b in cast}
    return count_votes(cast, classes.__getitem__, failures=failures, selection=selection, top_k=top_k)


def test_a_weighted_vote_adds_half_of_one_plus_the_score() -> None:
    standing = count(ballot(1, "a", 0.2), ballot(2, "b", 0.8), ballot(3, "a", 0.4))
    assert [(g.answer, g.votes, g.weight, g.score) for g in standing.groups] == [
        ("a", 2, pytest.approx(0.6 + 0.7), 0.4),
        ("b", 1, pytest.approx(0.9), 0.8),
    ]
    # 1.3 of 1.3 + 0.9, and 0.5 for the imagined trajectory.
    assert standing.confidence == pytest.approx(1.3 / 2.7)


def test_majority_counts_heads_and_best_looks_at_the_score_alone() -> None:
    cast = [ballot(1, "a", -0.9), ballot(2, "a", -0.8), ballot(3, "b", 0.6), ballot(4, "c", 0.7)]
    assert count(*cast, selection=Selection.MAJORITY).answer == "a"
    assert count(*cast, selection=Selection.BEST).answer == "c"
    assert count(*cast, selection=Selection.WEIGHTED_VOTE).answer == "c"


def test_the_best_scored_trajectory_gives_the_spelling() -> None:
    standing = count(ballot(1, "a one", 0.1), ballot(2, "a two", 0.9))
    assert standing.answer == "a two"
    assert standing.groups[0].node_ids == (2, 1)


def test_only_top_k_trajectories_vote_and_all_are_listed() -> None:
    cast = [ballot(1, "a", 0.1), ballot(2, "a", 0.1), ballot(3, "b", 0.9)]
    assert count(*cast).answer == "a"
    standing = count(*cast, top_k=1)
    assert [(g.answer, g.votes, g.weight) for g in standing.groups] == [("b", 1, 0.95), ("a", 2, 0)]


def test_top_k_does_not_touch_the_other_selections() -> None:
    cast = [ballot(1, "a", 0.1), ballot(2, "a", 0.1), ballot(3, "b", 0.9)]
    assert count(*cast, top_k=1, selection=Selection.MAJORITY).answer == "a"


def test_failed_trajectories_speak_against_the_answer() -> None:
    # 0.75 against 2 failures of 0.5 and the imagined 0.5.
    assert count(ballot(1, "a", 0.5), failures=2).confidence == pytest.approx(0.75 / 2.25)


def test_failed_trajectories_take_only_the_seats_that_are_left() -> None:
    standing = count(ballot(1, "a", 1.0), ballot(2, "a", 1.0), failures=5, top_k=3)
    assert standing.confidence == pytest.approx(2.0 / (2.0 + 0.5 + 0.5))


def test_a_single_sure_trajectory_is_not_certain() -> None:
    assert count(ballot(1, "a", 1.0)).confidence == pytest.approx(1 / 1.5)


def test_majority_confidence_counts_one_imagined_vote_against() -> None:
    cast = [ballot(1, "a"), ballot(2, "a"), ballot(3, "b")]
    assert count(*cast, failures=1, selection=Selection.MAJORITY).confidence == pytest.approx(2 / 5)


def test_a_calibration_changes_the_confidence_and_not_the_order() -> None:
    cast = [ballot(1, "a", 0.6), ballot(2, "b", 0.2), ballot(3, "a", -0.2)]
    fit = Calibration(scale=2.0, budget_slope=0.3, offset=-0.5)
    classes = {b.answer: ord(b.answer) for b in cast}
    fitted, unfitted = (
        count_votes(
            cast,
            classes.__getitem__,
            failures=2,
            selection=Selection.WEIGHTED_VOTE,
            top_k=None,
            calibration=calibration,
        )
        for calibration in (fit, None)
    )
    assert fitted.groups == unfitted.groups
    # Failed trajectories count among the five.
    assert fitted.confidence == fit.confidence(unfitted.confidence, trajectories=5)


def test_ties_go_to_more_votes_then_to_the_earlier_trajectory() -> None:
    assert count(ballot(1, "a", 1.0), ballot(2, "b", 0.0), ballot(3, "b", 0.0)).answer == "b"
    assert count(ballot(1, "b", 0.5), ballot(2, "a", 0.5)).answer == "b"


def test_without_ballots_there_is_no_answer() -> None:
    standing = count(failures=3)
    assert (standing.answer, standing.confidence, standing.groups) == (None, 0.0, ())


def test_an_answer_no_trajectory_has_reached_does_not_vote() -> None:
    tree = Tree("p")
    for visits in (1, 2):
        node = Node(id=tree.next_id, parent=ROOT, depth=1, outcome=NodeOutcome.ANSWERED, answer="7", score=0.5)
        node.prior_visits, node.visits = 1, visits
        tree.add(node)
    assert [cast.node_id for cast in ballots(tree)] == [2]


scored_ballots = st.lists(st.tuples(st.sampled_from("abc"), st.none() | st.floats(-1, 1)), max_size=12)


@given(scored_ballots, st.integers(0, 20), st.sampled_from(Selection), st.none() | st.integers(1, 20))
def test_confidence_lies_between_zero_and_one_and_votes_add_up(
    answers: list[tuple[str, float | None]], failures: int, selection: Selection, top_k: int | None
) -> None:
    cast = [ballot(index + 1, answer, score) for index, (answer, score) in enumerate(answers)]
    standing = count(*cast, failures=failures, selection=selection, top_k=top_k)
    assert 0.0 <= standing.confidence < 1.0
    assert sum(group.votes for group in standing.groups) == len(cast)


def test_a_trajectory_has_the_votes_of_its_rarest_step() -> None:
    tree = Tree("p")
    for text, agreeing in (("common", 6), ("rare", 1)):
        add_step(tree, text, multiplicity=agreeing)
    assert [(ballot.answer, ballot.votes) for ballot in ballots(tree)] == [("common", 6), ("rare", 1)]


def test_merged_candidates_outvote_a_better_scored_stray_one() -> None:
    cast = [
        Ballot(node_id=NodeId(1), answer="7", score=0.4, votes=6),
        Ballot(node_id=NodeId(2), answer="8", score=0.5, votes=1),
    ]
    standing = count_votes(cast, int, failures=0, selection=Selection.WEIGHTED_VOTE, top_k=None)
    assert standing.answer == "7"
    # 6 * 0.7 = 4.2 against 1 * 0.75; confidence 4.2 / (4.2 + 0.75 + 0.5).
    assert standing.confidence == pytest.approx(4.2 / 5.45)


def add_step(tree: Tree, answer: str, *, multiplicity: int) -> None:
    """A step sampled `multiplicity` times, and below it an answer that all of 8 candidates gave."""
    step = PathStep(text=answer, token_ids=(1,), stop=CandidateStop.END_OF_CODE)
    node = Node(id=tree.next_id, parent=ROOT, depth=1, step=step, multiplicity=multiplicity, visits=1)
    tree.add(node)
    end = PathStep(text=answer, token_ids=(1,), stop=CandidateStop.END_OF_ANSWER)
    tree.add(
        Node(
            id=tree.next_id,
            parent=node.id,
            depth=2,
            step=end,
            outcome=NodeOutcome.ANSWERED,
            answer=answer,
            multiplicity=8,
            visits=1,
        )
    )


def place_all(answers: str, **verdicts: Verdict) -> tuple[list[int], AnswerClasses, list[Pair]]:
    """The classes of one-letter answers; `ab=SAME` says that a and b are the same, unsaid pairs are different."""
    known = {frozenset(pair): verdict for pair, verdict in verdicts.items()}
    classes = AnswerClasses()
    asked: list[Pair] = []
    for answer in answers:
        while (pair := classes.place(answer)) is not None:
            asked.append(pair)
            classes.learn(pair, known.get(frozenset(pair), Verdict.DIFFERENT))
    return [classes[answer] for answer in answers], classes, asked


def test_equal_answers_share_a_class() -> None:
    placed, classes, _ = place_all("acb", ab=Verdict.SAME)
    assert placed == [0, 1, 0]
    assert not classes.has_unknown


def test_an_answer_that_could_not_be_compared_is_not_merged() -> None:
    placed, classes, _ = place_all("ab", ab=Verdict.UNKNOWN)
    assert placed == [0, 1]
    assert classes.has_unknown


def test_doubt_about_one_member_is_settled_by_another() -> None:
    # c cannot be compared with a, but is the same as b, which is the same as a.
    placed, classes, _ = place_all("abc", ab=Verdict.SAME, ac=Verdict.UNKNOWN, bc=Verdict.SAME)
    assert placed == [0, 0, 0]
    assert not classes.has_unknown


def test_each_pair_is_asked_once_and_equal_texts_never() -> None:
    asked = place_all("ababac")[2]
    assert sorted(asked) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_pair_never_compared_counts_as_unknown() -> None:
    classes = AnswerClasses()
    for answer in "ab":
        while (pair := classes.place(answer)) is not None:
            classes.learn(pair, Verdict.UNKNOWN)
    assert [classes[answer] for answer in "ab"] == [0, 1]
    assert classes.has_unknown
