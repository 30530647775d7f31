"""Narration: the events of a search in words, one line each, as the reasoning of a reply."""

from typing import assert_never

from search import AnswerChanged, Event, NodeAdded, NodeOutcome, SearchStarted, TrajectoryFinished
from search.format import ANSWER
from server.http.responses import split_comment

UNUSED = "Only the user messages are read, as one problem. The other messages were not used.\n"
"""Told first where it is so: nobody should have to guess it from the answer."""

LINE_CHARS = 200
"""Most characters of a step in a line. The comments of most steps are shorter; the reply has the whole steps."""


def narrate(event: Event, *, trajectories: int | None) -> str:
    """A line about the event; `trajectories` is the budget of its search."""
    match event:
        case SearchStarted():
            bound = "" if trajectories is None else f", trajectories: at most {trajectories}"
            found = f" Trajectories of an earlier search: {cached}." if (cached := event.cached_trajectories) else ""
            return f"Searching. Strategy: {event.strategy}{bound}.{found}\n"
        case NodeAdded():
            return f"Step {event.depth}{_remark(event)}: {_title(event.text)}\n"
        case TrajectoryFinished():
            end = "no answer" if event.answer is None else f"the answer {_cut(event.answer)}{_scored(event.score)}"
            return f"Trajectory {event.index + 1} ends with {end}.\n"
        case AnswerChanged():
            return f"Best answer so far: {_cut(event.answer)}, confidence {event.confidence:.2f}.\n"
        case _:
            assert_never(event)


def _remark(node: NodeAdded) -> str:
    is_alive = node.outcome in {NodeOutcome.OPEN, NodeOutcome.ANSWERED}
    return _scored(node.score) if is_alive else f" ({node.outcome.replace('_', ' ')})"


def _scored(score: float | None) -> str:
    return "" if score is None else f" (score {score:+.2f})"


def _title(text: str) -> str:
    """The comment of the step, or else its first line."""
    comment, code = split_comment(text.strip().removeprefix(ANSWER))
    return _cut(comment or code.partition("\n")[0])


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LINE_CHARS else f"{line[:LINE_CHARS]}…"
