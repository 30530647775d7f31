"""Cleaning: finds problems that occur twice, and problems that an evaluation set knows. Pure.

Three rules say that a problem overlaps with an evaluation set: its text is equal (case and spacing do not matter), it
is equal once all numbers are masked, or they share a run of 10 words. A run that much of the evaluation set contains is
a phrase (“put your final answer within”, “where m and n are relatively prime positive integers”) and does not count.
Problems of generators share their templates by design: among them only equal texts count.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from training.problems.problem import GENERATOR, Problem
from training.recipe import Label

RUN_WORDS = 10
"""Two texts on the same subject rarely share a run as long; those that do are usually copies or variants."""

PHRASE_SHARE = 0.1
"""Share of an evaluation set's problems from which a run is a phrase. A template with many variants stays below."""
PHRASE_PROBLEMS = 4
"""A run in fewer problems is never a phrase: a small evaluation set is as well protected as a large one."""

_QUOTES = str.maketrans("‘’“”", "''\"\"")
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
_WORD = re.compile(r"\w+(?:'\w+)*")


class Rule(StrEnum):
    """Why two problems count as the same, strongest first."""

    EQUAL_TEXT = "equal_text"
    """Equal but for case, spacing and the shape of quotation marks."""
    OTHER_NUMBERS = "other_numbers"
    """Equal once every number is masked."""
    SHARED_RUN = "shared_run"
    """They share `RUN_WORDS` words in a row."""


class Overlap(NamedTuple):
    """A problem, and one that it counts as the same as."""

    problem: Problem
    rule: Rule
    other: Problem


class Deduplicated(NamedTuple):
    """Problems with one text each, and what was left out for it."""

    kept: list[Problem]
    duplicates: list[Overlap]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decontaminated:
    """Problems that no evaluation set knows, and what was left out for it."""

    kept: list[Problem]
    overlaps: Mapping[str, Sequence[Overlap]]
    """By evaluation set, under the strongest rule. A problem that overlaps with several sets is in each."""


def normalised(question: str) -> str:
    """The text by which two problems count as the same: case, spacing and the shape of quotes do not matter."""
    return " ".join(question.translate(_QUOTES).split()).casefold()


def deduplicated(problems: Sequence[Problem]) -> Deduplicated:
    """One problem of each text, in their order: the first with an exact label, or else the first."""
    chosen: dict[str, int] = {}
    for place, problem in enumerate(problems):
        first = chosen.setdefault(normalised(problem.question), place)
        if problem.label is Label.EXACT and problems[first].label is not Label.EXACT:
            chosen[normalised(problem.question)] = place
    kept: list[Problem] = []
    duplicates: list[Overlap] = []
    for place, problem in enumerate(problems):
        first = chosen[normalised(problem.question)]
        if place == first:
            kept.append(problem)
        else:
            duplicates.append(Overlap(problem, Rule.EQUAL_TEXT, problems[first]))
    return Deduplicated(kept, duplicates)


def decontaminated(problems: Iterable[Problem], evaluation_sets: Mapping[str, Sequence[Problem]]) -> Decontaminated:
    """The problems that overlap with none of the evaluation sets, in their order."""
    known = {name: _EvaluationSet(members) for name, members in evaluation_sets.items()}
    kept: list[Problem] = []
    overlaps: dict[str, list[Overlap]] = {name: [] for name in known}
    for problem in problems:
        text = _Text(problem)
        found = [(name, overlap) for name, members in known.items() if (overlap := members.overlap(text)) is not None]
        for name, overlap in found:
            overlaps[name].append(overlap)
        if not found:
            kept.append(problem)
    return Decontaminated(kept=kept, overlaps=overlaps)


class _Text:
    """A problem's text as each rule sees it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.equal = normalised(problem.question)
        self.masked = _NUMBER.sub("#", self.equal)
        self.runs = tuple(_runs(self.equal))
        self.is_generated = problem.source == GENERATOR


def _runs(text: str) -> Iterator[str]:
    words = _WORD.findall(text)
    return (" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1))


class _Known:
    """Masked texts and runs, with the first problem that has each."""

    def __init__(self, texts: Iterable[_Text], phrases: AbstractSet[str]) -> None:
        self._masked: dict[str, Problem] = {}
        self._runs: dict[str, Problem] = {}
        for text in texts:
            self._masked.setdefault(text.masked, text.problem)
            for run in _runs_apart_from(phrases, text):
                self._runs.setdefault(run, text.problem)

    def overlap(self, text: _Text) -> Overlap | None:
        if text.masked in self._masked:
            return Overlap(text.problem, Rule.OTHER_NUMBERS, self._masked[text.masked])
        shared = self._runs.keys() & text.runs
        return Overlap(text.problem, Rule.SHARED_RUN, self._runs[min(shared)]) if shared else None


class _EvaluationSet:
    def __init__(self, problems: Iterable[Problem]) -> None:
        texts = [_Text(problem) for problem in problems]
        phrases = _phrases(texts)
        self._equal: dict[str, Problem] = {}
        for text in texts:
            self._equal.setdefault(text.equal, text.problem)
        self._generated = _Known((text for text in texts if text.is_generated), phrases)
        self._written = _Known((text for text in texts if not text.is_generated), phrases)

    def overlap(self, text: _Text) -> Overlap | None:
        """The strongest reason why the problem counts as one of the set."""
        if text.equal in self._equal:
            return Overlap(text.problem, Rule.EQUAL_TEXT, self._equal[text.equal])
        compared = (self._written,) if text.is_generated else (self._written, self._generated)
        found = [overlap for known in compared if (overlap := known.overlap(text)) is not None]
        return min(found, key=lambda overlap: list(Rule).index(overlap.rule), default=None)


def _runs_apart_from(phrases: AbstractSet[str], text: _Text) -> Iterator[str]:
    """The runs of a text that share no word with a phrase: what is before a phrase must not make its end count."""
    places = [place for place, run in enumerate(text.runs) if run in phrases]
    for place, run in enumerate(text.runs):
        if all(abs(place - phrase) >= RUN_WORDS for phrase in places):
            yield run


def _phrases(texts: Sequence[_Text]) -> AbstractSet[str]:
    occurrences = Counter(run for text in texts for run in set(text.runs))
    fewest = max(PHRASE_PROBLEMS, PHRASE_SHARE * len(texts))
    return {run for run, problems in occurrences.items() if problems >= fewest}
