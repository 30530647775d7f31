"""Equivalence classes: merging, doubt, and each question asked once."""

from dataclasses import dataclass, field

from search.equivalence import AnswerClasses
from search.outcomes import Verdict


@dataclass
class Checker:
    """Verdicts by unordered pair; different where nothing is written."""

    verdicts: dict[frozenset[str], Verdict]
    asked: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    async def same(self, a: str, b: str) -> Verdict:
        self.asked.append((a, b))
        return self.verdicts.get(frozenset((a, b)), Verdict.DIFFERENT)


def checker(**verdicts: Verdict) -> Checker:
    """`ab=SAME` says that a and b are the same."""
    return Checker({frozenset(pair): verdict for pair, verdict in verdicts.items()})


async def test_equal_answers_share_a_class() -> None:
    classes = AnswerClasses(checker(ab=Verdict.SAME))
    await classes.learn(["a", "c", "b"])
    assert classes.classes(["a", "c", "b"]).class_of == {"a": 0, "c": 1, "b": 0}
    assert not classes.classes(["a", "c", "b"]).has_unknown


async def test_an_answer_that_could_not_be_compared_is_not_merged() -> None:
    classes = AnswerClasses(checker(ab=Verdict.UNKNOWN))
    await classes.learn(["a", "b"])
    assert classes.classes(["a", "b"]).class_of == {"a": 0, "b": 1}
    assert classes.classes(["a", "b"]).has_unknown


async def test_doubt_about_one_member_is_settled_by_another() -> None:
    # c cannot be compared with a, but is the same as b, which is the same as a.
    classes = AnswerClasses(checker(ab=Verdict.SAME, ac=Verdict.UNKNOWN, bc=Verdict.SAME))
    await classes.learn(["a", "b", "c"])
    found = classes.classes(["a", "b", "c"])
    assert found.class_of == {"a": 0, "b": 0, "c": 0}
    assert not found.has_unknown


async def test_each_pair_is_asked_once_and_equal_texts_never() -> None:
    equality = checker()
    classes = AnswerClasses(equality)
    await classes.learn(["a", "b", "a"])
    await classes.learn(["b", "a", "c"])
    assert sorted(tuple(sorted(pair)) for pair in equality.asked) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_what_was_never_asked_counts_as_unknown() -> None:
    found = AnswerClasses(checker(ab=Verdict.SAME)).classes(["a", "b"])
    assert found.class_of == {"a": 0, "b": 1}
    assert found.has_unknown
