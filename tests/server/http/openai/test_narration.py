"""Narration: each event is one line that a person can read."""

import pytest

from search import AnswerChanged, Event, NodeAdded, NodeId, NodeOutcome, SearchStarted, Strategy, TrajectoryFinished
from server.http.openai.narration import LINE_CHARS, narrate


def node(text: str, *, outcome: NodeOutcome = NodeOutcome.OPEN, score: float | None = 0.5) -> NodeAdded:
    return NodeAdded(node_id=NodeId(1), parent=NodeId(0), depth=2, outcome=outcome, score=score, text=text)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            SearchStarted(problem="1+2", strategy=Strategy.MCTS, cached_trajectories=0),
            "Searching. Strategy: mcts, trajectories: at most 4.",
        ),
        (
            SearchStarted(problem="1+2", strategy=Strategy.GREEDY, cached_trajectories=2),
            "Searching. Strategy: greedy, trajectories: at most 4. Trajectories of an earlier search: 2.",
        ),
        (node("\n# Add the numbers\ntotal = 1 + 2\n"), "Step 2 (score +0.50): Add the numbers"),
        (node("total = 1 + 2\nprint(total)", score=None), "Step 2: total = 1 + 2"),
        (node("# Divide\n1 / 0", outcome=NodeOutcome.CODE_FAILED, score=None), "Step 2 (code failed): Divide"),
        (node("\n<answer>It is \\boxed{3}.", outcome=NodeOutcome.ANSWERED), r"Step 2 (score +0.50): It is \boxed{3}."),
        (
            TrajectoryFinished(index=0, node_id=NodeId(3), answer="1/2", score=-0.25),
            "Trajectory 1 ends with the answer 1/2 (score -0.25).",
        ),
        (TrajectoryFinished(index=4, node_id=NodeId(3), answer=None, score=None), "Trajectory 5 ends with no answer."),
        (AnswerChanged(answer="58", confidence=0.614), "Best answer so far: 58, confidence 0.61."),
    ],
)
def test_an_event_is_one_line(event: Event, line: str) -> None:
    assert narrate(event, trajectories=4) == f"{line}\n"


def test_a_long_step_is_cut_and_its_line_breaks_are_gone() -> None:
    line = narrate(node("# " + "long " * 100), trajectories=4)
    assert line.count("\n") == 1
    assert LINE_CHARS < len(line) < LINE_CHARS + 40
