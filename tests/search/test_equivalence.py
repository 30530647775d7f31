"""Equivalence classes: merging, doubt, and each question asked once."""

from search.answers import AnswerClasses, Pair
from search.outcomes import Verdict


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


def test_what_was_never_asked_counts_as_unknown_where_nobody_can_be_asked() -> None:
    classes = AnswerClasses()
    for answer in "ab":
        classes.place_as_known(answer)
    assert [classes[answer] for answer in "ab"] == [0, 1]
    assert classes.has_unknown
