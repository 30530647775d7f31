"""Snapshots: kept, and made again after loading."""

import pytest

from search.fakes import ScriptedRunner
from search.outcomes import CandidateStop, ExecutionOutcome
from search.protocols import Execution, PathStep, Snapshot
from search.snapshots import Snapshots, StateLost
from search.tree import ROOT, Node, NodeId, Tree


def chain(*codes: str, stdout: str = "") -> Tree:
    tree = Tree("p")
    for depth, code in enumerate(codes):
        tree.add(
            Node(
                id=tree.next_id,
                parent=NodeId(depth),
                depth=depth + 1,
                step=PathStep(text=code, token_ids=(), stop=CandidateStop.END_OF_STEP),
                execution=Execution(outcome=ExecutionOutcome.OK, stdout=stdout),
            )
        )
    return tree


async def test_the_first_step_starts_from_a_fresh_interpreter() -> None:
    assert await Snapshots(Tree("p"), ScriptedRunner()).after(ROOT) is None


async def test_a_kept_snapshot_is_used_without_running_anything() -> None:
    runner = ScriptedRunner()
    snapshots = Snapshots(chain("a"), runner)
    snapshots.keep(NodeId(1), Snapshot("kept"))
    assert await snapshots.after(NodeId(1)) == "kept"
    assert runner.ran == []


async def test_missing_snapshots_are_made_again_from_the_last_one_kept() -> None:
    runner = ScriptedRunner(made={Snapshot("kept")})
    snapshots = Snapshots(chain("a", "b", "c"), runner)
    snapshots.keep(NodeId(1), Snapshot("kept"))
    assert await snapshots.after(NodeId(3)) == "kept/b/c"
    assert runner.ran == [("kept", "b"), ("kept/b", "c")]
    assert await snapshots.after(NodeId(2)) == "kept/b"
    assert len(runner.ran) == 2


async def test_a_step_that_prints_something_else_the_second_time_is_lost() -> None:
    snapshots = Snapshots(chain("a", "b", stdout="1\n"), ScriptedRunner({"a": Execution(outcome=ExecutionOutcome.OK)}))
    with pytest.raises(StateLost) as loss:
        await snapshots.after(NodeId(2))
    assert loss.value.node_id == 1


async def test_a_step_that_fails_the_second_time_is_lost() -> None:
    failing = ScriptedRunner({"b": Execution(outcome=ExecutionOutcome.TIMEOUT_WALL)})
    with pytest.raises(StateLost) as loss:
        await Snapshots(chain("a", "b", "c"), failing).after(NodeId(3))
    assert loss.value.node_id == 2
