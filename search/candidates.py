"""Candidates: merges equal ones and checks them against the step format, before anything is run or scored.

A code step is text with something in it, before the code has ended; an answer step is `<answer>` and prose with a
boxed answer, after it. Neither holds a special token: written out by the policy it would be read as the format's own
on the next turn. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

from search.boxed import extract_boxed
from search.format import ANSWER, SPECIAL_TOKENS
from search.outcomes import CandidateStop, NodeOutcome
from search.protocols import Candidate, Execution, PathStep
from search.tree import Node


@dataclass(slots=True, kw_only=True)
class Draft:
    """A candidate on its way to becoming a node; the fields are those of `Node`."""

    step: PathStep
    outcome: NodeOutcome
    answer: str | None
    logprob: float
    multiplicity: int
    tokens: int
    execution: Execution | None = None
    """With its snapshot, which the node leaves out."""
    score: float | None = None
    terminal_value: float | None = None

    @property
    def has_code_to_run(self) -> bool:
        """Whether it is a well-formed code step."""
        return self.outcome is NodeOutcome.OPEN


def drafts_below(parent: Node, candidates: Sequence[Candidate], *, max_depth: int) -> list[Draft]:
    """One draft per distinct candidate, in order of first appearance.

    Equal are candidates that stopped alike with the same text, or with the same answer: two wordings of what one
    program printed are one trajectory, not two. The first stands for all; tokens of all are charged.
    """
    drafts: dict[tuple[CandidateStop, str | None, str | None], Draft] = {}
    for candidate in candidates:
        outcome = _outcome(candidate, parent=parent, max_depth=max_depth)
        answer = _answer(candidate) if outcome is NodeOutcome.ANSWERED else None
        key = (candidate.stop, answer, candidate.text if answer is None else None)
        if key in drafts:
            drafts[key].multiplicity += 1
            drafts[key].tokens += len(candidate.token_ids)
        else:
            drafts[key] = _draft(candidate, outcome, answer)
    return list(drafts.values())


def _draft(candidate: Candidate, outcome: NodeOutcome, answer: str | None) -> Draft:
    return Draft(
        step=PathStep(text=candidate.text, token_ids=tuple(candidate.token_ids), stop=candidate.stop),
        outcome=outcome,
        answer=answer,
        logprob=candidate.logprob,
        multiplicity=1,
        tokens=len(candidate.token_ids),
    )


def _outcome(candidate: Candidate, *, parent: Node, max_depth: int) -> NodeOutcome:
    """Where the candidate stands before its code has run."""
    code_has_ended = parent.step is not None and parent.step.stop is CandidateStop.END_OF_CODE
    match candidate.stop:
        case CandidateStop.LENGTH:
            return NodeOutcome.CUT_OFF
        case CandidateStop.END_OF_STEP | CandidateStop.END_OF_CODE:
            if code_has_ended or not _is_well_formed(candidate.text):
                return NodeOutcome.CUT_OFF
            # A code step on the last level can have no answer below it: not worth running.
            return NodeOutcome.OPEN if parent.depth + 1 < max_depth else NodeOutcome.TOO_DEEP
        case CandidateStop.END_OF_ANSWER:
            if not code_has_ended or not _is_well_formed(_answer_text(candidate)):
                return NodeOutcome.CUT_OFF
            return NodeOutcome.ANSWERED if _answer(candidate) else NodeOutcome.NO_ANSWER
        case _:
            assert_never(candidate.stop)


def _is_well_formed(text: str) -> bool:
    return bool(text.strip()) and not any(token in text for token in SPECIAL_TOKENS)


def _answer_text(candidate: Candidate) -> str:
    return candidate.text.lstrip().removeprefix(ANSWER)


def _answer(candidate: Candidate) -> str | None:
    return extract_boxed(_answer_text(candidate))
