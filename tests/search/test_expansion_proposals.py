"""Proposals: merging and checking candidates, and making lost interpreter states again."""

import pytest

from search.config import SearchConfig
from search.expansion import Draft, Expander, Proposal, Restored, Route, drafts_below, restore, route_to
from search.format import SPECIAL_TOKENS
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Candidate, Execution, PathStep, Snapshot
from search.testing.fakes import ScriptedRunner, answer, candidate, last_step, step
from search.tree import ROOT, Node, NodeId, Tree


def parent(depth: int = 1, stop: CandidateStop = CandidateStop.END_OF_STEP) -> Node:
    above = PathStep(text="above", token_ids=(), stop=stop)
    return Node(id=NodeId(depth), parent=ROOT, depth=depth, step=above)


IN_CODE = parent()
AFTER_CODE = parent(stop=CandidateStop.END_OF_CODE)
AT_ROOT = Node(id=ROOT, parent=None, depth=0)


def drafts(above: Node, *candidates: Candidate, max_depth: int = 16) -> list[Draft]:
    return drafts_below(above, candidates, max_depth=max_depth)


def outcome(above: Node, only: Candidate, *, max_depth: int = 16) -> NodeOutcome:
    return drafts(above, only, max_depth=max_depth)[0].outcome


def test_equal_text_and_stop_merge_and_all_tokens_are_charged() -> None:
    merged = drafts(IN_CODE, step("x = 1", tokens=3, logprob=-1), step("x = 1", tokens=5, logprob=-2), step("x = 2"))
    assert [(draft.multiplicity, draft.tokens, draft.logprob) for draft in merged] == [(2, 8, -1), (1, 4, -1.0)]
    assert merged[0].step.token_ids == (0, 1, 2)


def test_equal_text_with_another_stop_does_not_merge() -> None:
    assert len(drafts(IN_CODE, step("print(x)"), last_step("print(x)"))) == 2


def test_two_wordings_of_one_answer_merge_below_one_program() -> None:
    merged = drafts(AFTER_CODE, answer("7"), answer("7", wording="So"), answer("8"))
    assert [(draft.answer, draft.multiplicity) for draft in merged] == [("7", 2), ("8", 1)]


def test_an_unreadable_answer_never_merges_with_a_readable_one() -> None:
    unreadable = candidate("7", CandidateStop.END_OF_ANSWER)
    assert [draft.outcome for draft in drafts(AFTER_CODE, unreadable, answer("7"))] == [
        NodeOutcome.NO_ANSWER,
        NodeOutcome.ANSWERED,
    ]


@pytest.mark.parametrize("above", [AT_ROOT, IN_CODE])
def test_code_goes_on_until_it_has_ended(above: Node) -> None:
    assert outcome(above, step("x = 1")) is NodeOutcome.OPEN
    assert outcome(above, last_step("print(x)")) is NodeOutcome.OPEN
    assert outcome(above, answer("7")) is NodeOutcome.CUT_OFF


def test_after_the_code_only_an_answer_may_come() -> None:
    assert outcome(AFTER_CODE, answer("7")) is NodeOutcome.ANSWERED
    assert outcome(AFTER_CODE, step("x = 1")) is NodeOutcome.CUT_OFF
    assert outcome(AFTER_CODE, last_step("x = 1")) is NodeOutcome.CUT_OFF


@pytest.mark.parametrize("above", [AT_ROOT, IN_CODE, AFTER_CODE])
def test_a_candidate_at_the_token_limit_is_cut_off(above: Node) -> None:
    assert outcome(above, candidate("\nx = 1\n", CandidateStop.LENGTH)) is NodeOutcome.CUT_OFF


@pytest.mark.parametrize("text", ["", "\n", " \n\t"])
def test_a_step_of_nothing_is_cut_off(text: str) -> None:
    assert outcome(IN_CODE, candidate(text, CandidateStop.END_OF_STEP)) is NodeOutcome.CUT_OFF
    assert outcome(AFTER_CODE, candidate(text, CandidateStop.END_OF_ANSWER)) is NodeOutcome.CUT_OFF


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_special_token_inside_a_step_is_cut_off(token: str) -> None:
    assert outcome(IN_CODE, step(f"x = 1{token}")) is NodeOutcome.CUT_OFF
    assert outcome(AFTER_CODE, answer("7", wording=f"is {token}")) is NodeOutcome.CUT_OFF


def test_an_answer_is_read_with_or_without_its_opening_token() -> None:
    assert drafts(AFTER_CODE, candidate("It is \\boxed{7}", CandidateStop.END_OF_ANSWER))[0].answer == "7"
    assert drafts(AFTER_CODE, answer("7"))[0].answer == "7"


def test_an_answer_without_a_box_is_no_answer() -> None:
    assert outcome(AFTER_CODE, candidate("\nIt is 7", CandidateStop.END_OF_ANSWER)) is NodeOutcome.NO_ANSWER


def test_on_the_last_level_only_a_code_step_is_too_deep() -> None:
    assert outcome(parent(1), step("x = 1"), max_depth=3) is NodeOutcome.OPEN
    assert outcome(parent(2), step("x = 1"), max_depth=3) is NodeOutcome.TOO_DEEP
    assert outcome(parent(2), last_step("x = 1"), max_depth=3) is NodeOutcome.TOO_DEEP
    assert outcome(parent(2, CandidateStop.END_OF_CODE), answer("7"), max_depth=3) is NodeOutcome.ANSWERED


def test_a_malformed_step_on_the_last_level_is_cut_off() -> None:
    assert outcome(parent(2), step(""), max_depth=3) is NodeOutcome.CUT_OFF


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
    snapshots = {ROOT: None, **(kept or {})}
    return await restore(route_to(tree, snapshots, NodeId(node)), runner)


def test_the_first_step_starts_from_a_fresh_interpreter() -> None:
    assert route_to(Tree("p"), {ROOT: None}, ROOT) == Route(known=None)


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


def test_a_plan_takes_the_snapshots_there_are_at_the_time() -> None:
    expander = Expander(chain("a", "b"), config=SearchConfig(), seed=1)
    early = expander.plan(NodeId(2), n=1)
    expander.apply(Proposal(node_id=NodeId(2), restored={NodeId(1): Snapshot("late")}))
    assert [node.id for node in early.route.missing] == [1, 2]
    assert [node.id for node in expander.plan(NodeId(2), n=1).route.missing] == [2]


def test_of_two_snapshots_of_one_node_the_first_stays() -> None:
    expander = Expander(chain("a"), config=SearchConfig(), seed=1)
    for snapshot in ("first", "second"):
        expander.apply(Proposal(node_id=NodeId(1), restored={NodeId(1): Snapshot(snapshot)}))
    assert expander.plan(NodeId(1), n=1).route == Route(known=Snapshot("first"))


async def test_a_step_that_prints_otherwise_when_run_again_is_lost() -> None:
    runner = ScriptedRunner({"a": Execution(outcome=ExecutionOutcome.OK)})
    assert (await restored(chain("a", "b", stdout="1\n"), 2, runner)).lost == 1


async def test_a_step_that_fails_when_run_again_is_lost() -> None:
    failing = ScriptedRunner({"b": Execution(outcome=ExecutionOutcome.TIMEOUT_WALL)})
    state = await restored(chain("a", "b", "c"), 3, failing)
    assert (state.lost, state.made) == (2, {1: "/a"})
