"""Equivalence: sorts the answers of one search into classes of equal ones, asking each question once.

An answer joins the first class in which some member is the same; a member that is different settles that class, one
that could not be compared does not. UNKNOWN thus never merges two answers, nor does it keep them apart for good: a
later member may settle it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from search.outcomes import Verdict
from search.protocols import AnswerEquality


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """The class of each answer, as a number, and how sure the split is."""

    class_of: dict[str, int]
    has_unknown: bool
    """Whether two classes may be one, for all that could be checked."""


class AnswerClasses:
    """Remembers what the equality checker said about pairs of answers."""

    def __init__(self, equality: AnswerEquality) -> None:
        self._equality = equality
        self._verdicts: dict[tuple[str, str], Verdict] = {}

    async def learn(self, answers: Sequence[str]) -> None:
        """Ask whatever `classes` needs to know about `answers`."""
        while (pair := self._sort(answers)[1]) is not None:
            self._verdicts[pair] = await self._equality.same(*pair)

    def classes(self, answers: Sequence[str]) -> Classes:
        """The classes of `answers`, in order of first appearance; what was never asked counts as unknown."""
        return self._sort(answers)[0]

    def _sort(self, answers: Sequence[str]) -> tuple[Classes, tuple[str, str] | None]:
        """The classes as far as is known, and the first pair that nobody has asked about."""
        members: list[list[str]] = []
        class_of: dict[str, int] = {}
        has_unknown = False
        first_unasked: tuple[str, str] | None = None
        for answer in dict.fromkeys(answers):
            for number, group in enumerate(members):
                verdict, unasked = self._compare(answer, group)
                first_unasked = first_unasked or unasked
                if verdict is Verdict.SAME:
                    class_of[answer] = number
                    group.append(answer)
                    break
                has_unknown = has_unknown or verdict is Verdict.UNKNOWN
            else:
                class_of[answer] = len(members)
                members.append([answer])
        return Classes(class_of=class_of, has_unknown=has_unknown), first_unasked

    def _compare(self, answer: str, group: Sequence[str]) -> tuple[Verdict, tuple[str, str] | None]:
        """Against the members of one class, up to the first that settles it or was never asked about."""
        for member in group:
            # The checker is symmetric: one order per pair asks once.
            pair = (min(member, answer), max(member, answer))
            verdict = self._verdicts.get(pair)
            if verdict is None:
                return Verdict.UNKNOWN, pair
            if verdict is not Verdict.UNKNOWN:
                return verdict, None
        return Verdict.UNKNOWN, None
