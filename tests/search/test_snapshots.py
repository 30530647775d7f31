"""Snapshots: kept, and made again after loading."""

from search.expansion import Snapshots
from search.outcomes import CandidateStop, ExecutionOutcome
from search.proposal import Restored, Route, restore
from search.protocols import Execution, PathStep, Snapshot
from search.testing.fakes import ScriptedRunner
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


async def restored(
    tree: Tree, node: int, runner: ScriptedRunner, kept: dict[NodeId, Snapshot] | None = None
) -> Restored:
    snapshots = Snapshots(tree)
    snapshots.keep_all(kept or {})
    return await restore(snapshots.route_to(NodeId(node)), runner)


def test_the_first_step_starts_from_a_fresh_interpreter() -> None:
    assert Snapshots(Tree("p")).route_to(ROOT) == Route(known=None)


async def test_a_kept_snapshot_is_used_without_running_anything() -> None:
    runner = ScriptedRunner()
    state = await restored(chain("a"), 1, runner, {NodeId(1): Snapshot("kept")})
    assert (state.state, state.made, runner.ran) == ("kept", {}, [])


async def test_missing_snapshots_are_made_again_from_the_last_one_kept() -> None:
    runner = ScriptedRunner(made={Snapshot("kept")})
    state = await restored(chain("a", "b", "c"), 3, runner, {NodeId(1): Snapshot("kept")})
    assert state.state == "kept/b/c"
    assert state.made == {2: "kept/b", 3: "kept/b/c"}
    assert runner.ran == [("kept", "b"), ("kept/b", "c")]


def test_a_route_is_planned_with_what_is_there_at_the_time() -> None:
    snapshots = Snapshots(chain("a", "b"))
    route = snapshots.route_to(NodeId(2))
    snapshots.keep(NodeId(1), Snapshot("late"))
    assert [node.id for node in route.missing] == [1, 2]
    assert [node.id for node in snapshots.route_to(NodeId(2)).missing] == [2]


def test_of_two_snapshots_of_one_node_the_first_stays() -> None:
    snapshots = Snapshots(chain("a"))
    snapshots.keep_all({NodeId(1): Snapshot("first")})
    snapshots.keep_all({NodeId(1): Snapshot("second")})
    assert snapshots.route_to(NodeId(1)) == Route(known=Snapshot("first"))


async def test_a_step_that_prints_something_else_the_second_time_is_lost() -> None:
    runner = ScriptedRunner({"a": Execution(outcome=ExecutionOutcome.OK)})
    assert (await restored(chain("a", "b", stdout="1\n"), 2, runner)).lost == 1


async def test_a_step_that_fails_the_second_time_is_lost_and_those_before_it_are_not() -> None:
    failing = ScriptedRunner({"b": Execution(outcome=ExecutionOutcome.TIMEOUT_WALL)})
    state = await restored(chain("a", "b", "c"), 3, failing)
    assert (state.lost, state.made) == (2, {1: "/a"})
