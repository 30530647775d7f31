"""Outcomes: the closed sets of reasons why a candidate, an execution, a node or a search ended."""

from enum import StrEnum


class CandidateStop(StrEnum):
    """Why the policy stopped writing a candidate."""

    END_OF_STEP = "end_of_step"
    """The step is complete and more code follows."""
    END_OF_CODE = "end_of_code"
    """The last code step: the program's output comes next."""
    END_OF_ANSWER = "end_of_answer"
    """The candidate states the final answer; its node is terminal."""
    LENGTH = "length"
    """Cut off at the token limit: an incomplete step, never executed."""


class ExecutionOutcome(StrEnum):
    """How one code step ended in the sandbox."""

    OK = "ok"
    """Ran to its end."""
    ERROR = "error"
    """Raised an exception."""
    TIMEOUT_CPU = "timeout_cpu"
    """Used up its CPU time."""
    TIMEOUT_WALL = "timeout_wall"
    """Used up its wall-clock time."""
    MEMORY = "memory"
    """Ran out of memory."""
    OUTPUT_LIMIT = "output_limit"
    """Printed more than the cap."""
    CRASHED = "crashed"
    """The process died without reporting a result."""
    VIOLATION = "violation"
    """Broke a rule of the sandbox."""
    LOST = "lost"
    """The parent's state could not be restored."""


class NodeOutcome(StrEnum):
    """The state of a node in the search."""

    OPEN = "open"
    """A verified step that can be expanded."""
    ANSWERED = "answered"
    """Terminal: the trajectory states an answer."""
    NO_ANSWER = "no_answer"
    """Terminal: the answer step holds no readable boxed answer."""
    CODE_FAILED = "code_failed"
    """Dead: its code did not run to its end (see the execution)."""
    CUT_OFF = "cut_off"
    """Dead: the candidate ran into the token limit, or does not follow the step format."""
    TOO_DEEP = "too_deep"
    """Dead: the depth limit was reached without an answer."""
    CHILDLESS = "childless"
    """Dead: every candidate proposed below it is dead."""


class StopReason(StrEnum):
    """Why a search ended."""

    BUDGET = "budget"
    """The trajectories or tokens asked for are used up."""
    DEADLINE = "deadline"
    """The time allowed is over; the answer is the best so far."""
    CONVERGED = "converged"
    """The leading answer can no longer be overtaken within the budget."""
    CANCELLED = "cancelled"
    """The caller gave up; the answer is the best so far."""
    EXHAUSTED = "exhausted"
    """Nothing is left to expand."""


class Verdict(StrEnum):
    """Whether two answers are equal."""

    SAME = "same"
    """Proven or checked equal."""
    DIFFERENT = "different"
    """Checked and found different."""
    UNKNOWN = "unknown"
    """Could not be checked (time limit, unreadable): not evidence of a difference."""
