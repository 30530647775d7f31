"""Whole searches worked out by hand: UCT with PPM-augmented and with terminal-guided backup.

The sandbox and the models are scripted; every number below follows from

    UCT = Q + 2 sqrt(ln N_parent / N),  N_parent = parent's prior + sum of the children's N

or, in the tree that says so, from PUCT = Q + 2 P sqrt(N_parent) / (1 + N).
"""

import pytest

from search import (
    Budget,
    NodeOutcome,
    Parts,
    SearchConfig,
    SearchResult,
    StopReason,
    TrajectoryFinished,
    Tree,
    TreePolicy,
    Values,
)
from search import search as run_search
from search.events import Event
from search.outcomes import ExecutionOutcome
from search.protocols import Candidate, Execution
from search.testing.fakes import (
    AnswerKey,
    PathKey,
    ScriptedPolicy,
    ScriptedRunner,
    SteppingClock,
    StringEquality,
    answer,
    last_step,
    scores_by_last_step,
    step,
)

Row = tuple[int, int | None, NodeOutcome, int, float]


def table(tree: Tree) -> list[Row]:
    """id, parent, outcome, N, q"""
    return [(n.id, n.parent, n.outcome, n.visits, pytest.approx(n.value_sum)) for n in tree.nodes]  # type: ignore[misc]


async def run_to_the_end(parts: Parts, config: SearchConfig) -> tuple[SearchResult, list[int]]:
    """The result, and where each trajectory ended."""
    events: list[Event] = []
    result = await run_search(
        "p",
        parts=parts,
        config=config,
        budget=Budget(trajectories=100),
        seed=1,
        now=SteppingClock(),
        on_event=events.append,
    )
    return result, [event.node_id for event in events if isinstance(event, TrajectoryFinished)]


A, B, A1, A2, B1 = "\na\n", "\nb\n", "\na1\n", "\na2\n", "\nb1\n"


async def test_ppm_augmented_tree() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), step("b")],
        (A,): [last_step("a1"), last_step("a2")],
        (A, A1): [answer("7"), answer("8")],
        (B,): [last_step("b1")],
        (B, B1): [answer("7", wording="So")],
    }
    scores = {
        "a": 0.6,
        "b": 0.2,
        "a1": 0.5,
        "b1": -0.2,
        answer("7").text.strip(): 0.8,
        answer("8").text.strip(): 0.4,
        answer("7", wording="So").text.strip(): 0.1,
    }
    parts = Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner({"a2": Execution(outcome=ExecutionOutcome.ERROR, error="NameError: x")}),
        equality=StringEquality(),
        scorer=scores_by_last_step(scores),
    )
    result, ends = await run_to_the_end(parts, SearchConfig(candidates=2))

    # Rollout 1. Root: 1 (a) has Q 0.6, 2 (b) has Q 0.2, both N 1, N_parent 2: a wins by its score.
    #   Below a: 3 (a1, 0.5) and 4 (a2, dead). Below a1: 5 (7, 0.8) and 6 (8, 0.4): 5 wins. Back up 0.8:
    #   5: N 2, q 1.6    3: N 2, q 0.5 + 0.8 = 1.3    1: N 2, q 0.6 + 0.8 = 1.4    0: N 1, q 0.8
    # Rollout 2. N_parent 3, ln 3 = 1.0986:  a: 0.7 + 2 sqrt(1.0986 / 2) = 2.1823
    #                                        b: 0.2 + 2 sqrt(1.0986 / 1) = 2.2963: b wins.
    #   Below b: 7 (b1, -0.2), below that 8 (7, 0.1). Back up 0.1:
    #   8: N 2, q 0.2    7: N 2, q -0.1    2: N 2, q 0.3    0: N 2, q 0.9.   b is finished.
    # Rollout 3. Only a is left, and below it 6. Back up 0.4:
    #   6: N 2, q 0.8    3: N 3, q 1.7    1: N 3, q 1.8    0: N 3, q 1.3.    Nothing is left.
    assert ends == [5, 8, 6]
    assert result.stop_reason is StopReason.EXHAUSTED
    opened, answered, failed = NodeOutcome.OPEN, NodeOutcome.ANSWERED, NodeOutcome.CODE_FAILED
    assert table(result.tree) == [
        (0, None, opened, 3, 1.3),
        (1, 0, opened, 3, 1.8),
        (2, 0, opened, 2, 0.3),
        (3, 1, opened, 3, 1.7),
        (4, 1, failed, 0, 0.0),
        (5, 3, answered, 2, 1.6),
        (6, 3, answered, 2, 0.8),
        (7, 2, opened, 2, -0.1),
        (8, 7, answered, 2, 0.2),
    ]
    # Votes: 7 has (1 + 0.8)/2 + (1 + 0.1)/2 = 1.45, 8 has (1 + 0.4)/2 = 0.7.
    assert [(g.answer, g.votes, g.weight, g.node_ids) for g in result.answers] == [
        ("7", 2, pytest.approx(1.45), (5, 8)),
        ("8", 1, pytest.approx(0.7), (6,)),
    ]
    assert result.confidence == pytest.approx(1.45 / (1.45 + 0.7 + 0.5))
    assert result.best_path == (1, 3, 5)


async def test_terminal_guided_tree() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), step("b")],
        (A,): [last_step("a1")],
        (A, A1): [answer("7"), answer("8"), answer("9"), answer("6")],
        (B,): [last_step("b1")],
        (B, B1): [answer("5"), answer("7")],
    }
    parts = Parts(
        policy=ScriptedPolicy(script), runner=ScriptedRunner(), equality=StringEquality(), judge=AnswerKey("7")
    )
    result, ends = await run_to_the_end(parts, SearchConfig(candidates=4, values=Values.TERMINAL_GUIDED))

    # Right is 7 (+1), all else -1. Nodes: 1 a, 2 b; 3 a1 with 4 (7), 5 (8), 6 (9), 7 (6); 8 b1 with 9 (5), 10 (7).
    # Rollout 1. No child has a visit: lowest ids, 1-3-4, +1.                     a: N 1, q +1
    # Rollout 2. b has no visit: 2-8-9, -1.                                       b: N 1, q -1
    # Rollout 3. N_parent 2, ln 2 = 0.6931: a 1 + 1.6651, b -1 + 1.6651: a, 5, -1.  a: N 2, q 0
    # Rollout 4. N_parent 3, ln 3 = 1.0986: a 0 + 2 sqrt(0.5493) = 1.4823,
    #            b -1 + 2 sqrt(1.0986) = 1.0963: a, 6, -1.                        a: N 3, q -1
    # Rollout 5. N_parent 4, ln 4 = 1.3863: a -1/3 + 2 sqrt(0.4621) = 1.0263,
    #            b -1 + 2 sqrt(1.3863) = 1.3548: b, 10, +1.                       b: N 2, q 0, finished
    # Rollout 6. a is left: 7, -1.                                                a: N 4, q -2
    assert ends == [4, 9, 5, 6, 10, 7]
    assert result.stop_reason is StopReason.EXHAUSTED
    opened, answered = NodeOutcome.OPEN, NodeOutcome.ANSWERED
    assert table(result.tree) == [
        (0, None, opened, 6, -2.0),
        (1, 0, opened, 4, -2.0),
        (2, 0, opened, 2, 0.0),
        (3, 1, opened, 4, -2.0),
        (4, 3, answered, 1, 1.0),
        (5, 3, answered, 1, -1.0),
        (6, 3, answered, 1, -1.0),
        (7, 3, answered, 1, -1.0),
        (8, 2, opened, 2, 0.0),
        (9, 8, answered, 1, -1.0),
        (10, 8, answered, 1, 1.0),
    ]
    # Without scores: each vote weighs 1/2, and 7 has two of six.
    assert (result.answer, result.answers[0].votes) == ("7", 2)
    assert result.confidence == pytest.approx(1.0 / (3.0 + 0.5))
    assert result.usage.ppm_calls == 0


async def test_puct_tree() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [last_step("a", logprob=-1.0), last_step("b", logprob=-4.0)],
        (A,): [answer("7"), answer("6")],
        (B,): [answer("8")],
    }
    scores = {
        "a": 0.0,
        "b": 0.5,
        answer("7").text.strip(): -0.4,
        answer("6").text.strip(): -0.6,
        answer("8").text.strip(): 0.9,
    }
    parts = Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=scores_by_last_step(scores),
    )
    result, ends = await run_to_the_end(parts, SearchConfig(candidates=2, tree_policy=TreePolicy.PUCT))

    # Steps have 4 tokens: P(a) = e^-0.25 / (e^-0.25 + e^-1) = 0.7788 / 1.1467 = 0.6792, P(b) = 0.3208.
    # Rollout 1. N_parent 2: a: 0 + 2 * 0.6792 * 1.4142 / 2 = 0.9605, b: 0.5 + 2 * 0.3208 * 1.4142 / 2 = 0.9537: a wins,
    #   though b has the better score. Below a: 3 (7) and 4 (6), equally likely: 3 wins by its score. Back up -0.4:
    #   3: N 2, q -0.8    1: N 2, q -0.4    0: N 1, q -0.4
    # Rollout 2. N_parent 3: a: -0.2 + 2 * 0.6792 * 1.7321 / 3 = 0.5843, b: 0.5 + 2 * 0.3208 * 1.7321 / 2 = 1.0557: b.
    #   Below b: 5 (8). Back up 0.9:   5: N 2, q 1.8    2: N 2, q 1.4    0: N 2, q 0.5.   b is finished.
    # Rollout 3. Only 4 is left. Back up -0.6:   4: N 2, q -1.2    1: N 3, q -1.0    0: N 3, q -0.1
    assert ends == [3, 5, 4]
    opened, answered = NodeOutcome.OPEN, NodeOutcome.ANSWERED
    assert table(result.tree) == [
        (0, None, opened, 3, -0.1),
        (1, 0, opened, 3, -1.0),
        (2, 0, opened, 2, 1.4),
        (3, 1, answered, 2, -0.8),
        (4, 1, answered, 2, -1.2),
        (5, 2, answered, 2, 1.8),
    ]


async def test_a_tree_of_two_rollouts_in_flight() -> None:
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), step("b")],
        (A,): [last_step("a1"), last_step("a2")],
        (A, A1): [answer("7")],
        (A, A2): [answer("8")],
        (B,): [last_step("b1")],
        (B, B1): [answer("9")],
    }
    scores = {
        "a": 0.6,
        "b": 0.2,
        "a1": 0.5,
        "a2": 0.4,
        "b1": -0.2,
        answer("7").text.strip(): 0.8,
        answer("8").text.strip(): 0.3,
        answer("9").text.strip(): 0.1,
    }
    parts = Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=scores_by_last_step(scores),
    )
    result, ends = await run_to_the_end(parts, SearchConfig(candidates=2, parallel_rollouts=2))

    # Results as they are applied; in brackets what is being expanded then.
    # 1. Root: 1 (a), 2 (b). Rollout 1 goes on to a; rollout 2 finds a taken and goes to b.        [1, 2]
    # 2. Below a: 3 (a1), 4 (a2). Rollout 1 goes on to 3, by score.                                 [2, 3]
    # 3. Below b: 5 (b1). Rollout 2 goes on to 5.                                                   [3, 5]
    # 4. Below 3: 6 (7, 0.8). 5. Rollout 1 ends there: 6: N 2, q 1.6  3: N 2, q 1.3  1: N 2, q 1.4.  3 is finished.
    #    Rollout 3: b has nothing but 5, which is taken; a has 4.                                   [5, 4]
    # 6. Below 5: 7 (9, 0.1). 7. Rollout 2 ends there: 7: N 2, q 0.2  5: N 2, q -0.1  2: N 2, q 0.3.  b is finished.
    #    No room is left for another rollout.                                                       [4]
    # 8. Below 4: 8 (8, 0.3). 9. Rollout 3 ends there: 8: N 2, q 0.6  4: N 2, q 0.7  1: N 3, q 1.7
    assert ends == [6, 7, 8]
    assert result.tree.applied == 9
    assert [node.ends_trajectory for node in result.tree.nodes] == [None] * 6 + [0, 1, 2]
    opened, answered = NodeOutcome.OPEN, NodeOutcome.ANSWERED
    assert table(result.tree) == [
        (0, None, opened, 3, 1.2),
        (1, 0, opened, 3, 1.7),
        (2, 0, opened, 2, 0.3),
        (3, 1, opened, 2, 1.3),
        (4, 1, opened, 2, 0.7),
        (5, 2, opened, 2, -0.1),
        (6, 3, answered, 2, 1.6),
        (7, 5, answered, 2, 0.2),
        (8, 4, answered, 2, 0.6),
    ]
