"""Columns: finds question, answer and published solution in one record, by the names that known data sets use.

GSM8K        question, answer: text that ends in `#### 42`
MATH         problem, solution: text with `\\boxed{42}`
NuminaMath   problem, solution; in later editions also answer, which may be `proof` or `notfound`
MetaMathQA   query, response: text that ends in `The answer is: 42`
others       problem or question, and answer: text, a number, or a list of them; solution where there is one
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from search.format import extract_boxed

QUESTIONS = ("problem", "question", "query")
SOLUTIONS = ("solution", "response")
ANSWER = "answer"
IDS = ("id", "index")

EXPECTED = (
    'expected "problem" or "question" with the text, and "answer", or "solution" with the answer in \\boxed{}, '
    "behind #### or behind “The answer is:”"
)
_MARKED = re.compile(r"^.*(?:####|The answer is:?)[ \t]*(.+?)[ \t]*$", re.MULTILINE)
"""A line that states the answer and nothing behind it."""
_GROUPED = re.compile(r"-?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_NO_ANSWER = frozenset({"", "proof", "notfound"})


class UnreadableRecord(Exception):
    """The record holds no problem in a known form; the message says what was expected and what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """What a record says."""

    question: str
    answer: str | None
    """None where the record states none."""
    solution: str | None


def fields_of(record: Mapping[str, object]) -> Fields:
    """Question, answer and solution of a record. Raises `UnreadableRecord`."""
    question = _text(record, QUESTIONS)
    if question is None:
        raise UnreadableRecord(f"no question; {EXPECTED}; found {', '.join(record) or 'nothing'}")
    stated, solution = _stated(record.get(ANSWER)), _text(record, SOLUTIONS)
    if stated is not None and "####" in stated:
        answer = answer_in(stated)
        return Fields(question=question, answer=answer, solution=solution or stated.rpartition("####")[0].strip())
    if stated is None and solution is not None:
        stated = answer_in(solution)
    return Fields(question=question, answer=stated, solution=solution)


def answer_in(solution: str) -> str | None:
    """The answer that a solution states: the last box, or else the last line that is marked as the answer."""
    boxed = extract_boxed(solution)
    if boxed is not None:
        return boxed
    lines: list[str] = _MARKED.findall(solution)
    return _plain(lines[-1].rstrip(".")) if lines else None


def _text(record: Mapping[str, object], names: tuple[str, ...]) -> str | None:
    texts = (value.strip() for name in names if isinstance(value := record.get(name), str))
    return next((text for text in texts if text), None)


def _stated(value: object) -> str | None:
    match value:
        case None:
            return None
        case str():
            text = value.strip()
            return None if text.casefold() in _NO_ANSWER else text
        case bool():
            raise UnreadableRecord(f'the "answer" {value} is neither text nor a number')
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return str(int(value)) if value.is_integer() else repr(value)
        case list():
            parts = [_stated(part) for part in cast(list[object], value)]
            return ", ".join(part for part in parts if part is not None) or None
        case _:
            raise UnreadableRecord(f'the "answer" is of type {type(value).__name__}; expected text, numbers or a list')


def _plain(answer: str) -> str:
    """Without the commas that group digits."""
    return answer.replace(",", "") if _GROUPED.fullmatch(answer) else answer
