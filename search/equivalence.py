"""Equivalence: sorts the answers of one search into classes of equal ones, asking each question once. Pure.

An answer joins the first class in which some member is the same; a member that is different settles that class, one
that could not be compared does not. UNKNOWN thus never merges two answers, nor does it keep them apart for good: a
later member may settle it. Answers are placed one after the other, each once.
"""

from collections.abc import Sequence
from typing import NewType

from search.outcomes import Verdict

Pair = tuple[str, str]
"""Two answers to be compared, in the one order in which they are asked about: the checker is symmetric."""

ClassId = NewType("ClassId", int)
"""Numbers a class of equal answers, in the order in which the first of each came."""


class AnswerClasses:
    """The classes so far, and what the equality checker said about pairs of answers."""

    def __init__(self) -> None:
        self._verdicts: dict[Pair, Verdict] = {}
        self._members: list[list[str]] = []
        self._class_of: dict[str, ClassId] = {}
        self.has_unknown = False
        """Whether two classes may be one, for all that could be checked."""

    def __getitem__(self, answer: str) -> ClassId:
        """The class of an answer that was placed."""
        return self._class_of[answer]

    def learn(self, pair: Pair, verdict: Verdict) -> None:
        """What the checker said."""
        self._verdicts[pair] = verdict

    def place(self, answer: str) -> Pair | None:
        """Give the answer its class; else the pair that has to be asked about first."""
        if answer in self._class_of:
            return None
        in_doubt = False
        for number, members in enumerate(self._members):
            verdict, unasked = self._compare(answer, members)
            if unasked is not None:
                return unasked
            if verdict is Verdict.SAME:
                self._join(answer, ClassId(number), in_doubt=in_doubt)
                return None
            in_doubt = in_doubt or verdict is Verdict.UNKNOWN
        self._join(answer, ClassId(len(self._members)), in_doubt=in_doubt)
        return None

    def place_as_known(self, answer: str) -> None:
        """Give the answer its class at once; what was never asked counts as unknown."""
        while (pair := self.place(answer)) is not None:
            self.learn(pair, Verdict.UNKNOWN)

    def _join(self, answer: str, number: ClassId, *, in_doubt: bool) -> None:
        if number == len(self._members):
            self._members.append([])
        self._members[number].append(answer)
        self._class_of[answer] = number
        self.has_unknown = self.has_unknown or in_doubt

    def _compare(self, answer: str, members: Sequence[str]) -> tuple[Verdict, Pair | None]:
        """With the members of one class, up to the first that settles it or was never asked about."""
        for member in members:
            pair = (min(member, answer), max(member, answer))
            verdict = self._verdicts.get(pair)
            if verdict is None:
                return Verdict.UNKNOWN, pair
            if verdict is not Verdict.UNKNOWN:
                return verdict, None
        return Verdict.UNKNOWN, None
