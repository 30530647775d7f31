"""Expansion: running, scoring, judging and adding the children of one node; seeds of requests."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pytest

from search.config import SearchConfig, Strategy, Values
from search.errors import BrokenPart
from search.expansion import Expander, propose, request_seed
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Candidate, Execution, Judge, Parts, Path, PathStep, PathTooLong, Snapshot
from search.testing.fakes import (
    AnswerKey,
    FunctionScorer,
    PathKey,
    ScriptedPolicy,
    ScriptedRunner,
    StringEquality,
    answer,
    candidate,
    last_step,
    step,
)
from search.tree import ROOT, NodeId, Tree

FAILING = Execution(outcome=ExecutionOutcome.ERROR, error="ZeroDivisionError: division by zero")
PRINTING = Execution(outcome=ExecutionOutcome.OK, stdout="42\n")


def parts(
    script: Mapping[PathKey, Sequence[Candidate]],
    *,
    executions: Mapping[str, Execution] | None = None,
    scorer: FunctionScorer | None = None,
    judge: Judge | None = None,
) -> Parts:
    return Parts(
        policy=ScriptedPolicy(script),
        runner=ScriptedRunner(executions or {}),
        equality=StringEquality(),
        scorer=scorer or FunctionScorer(lambda path: 0.25),
        judge=judge,
    )


@dataclass
class Growing:
    """An expander with its parts."""

    expander: Expander
    parts: Parts
    config: SearchConfig

    async def expand(self, node_id: NodeId, *, n: int) -> list[NodeId]:
        plan = self.expander.plan(node_id, n=n)
        return self.expander.apply(await propose(plan, parts=self.parts, config=self.config))


def expander(tree: Tree, parts: Parts, config: SearchConfig | None = None) -> Growing:
    config = config or SearchConfig()
    return Growing(Expander(tree, config=config, seed=7), parts, config)


async def test_failing_candidates_get_an_outcome_and_no_score() -> None:
    scorer = FunctionScorer(lambda path: 0.25)
    proposed = [step("x = 1"), step("1 / 0"), candidate("\ny =", CandidateStop.LENGTH), answer("7")]
    tree = Tree("p")
    await expander(tree, parts({(): proposed}, executions={"1 / 0": FAILING}, scorer=scorer)).expand(ROOT, n=4)
    assert [node.outcome for node in tree.nodes[1:]] == [
        NodeOutcome.OPEN,
        NodeOutcome.CODE_FAILED,
        NodeOutcome.CUT_OFF,
        NodeOutcome.CUT_OFF,
    ]
    assert tree.nodes[2].execution == FAILING
    assert [node.score for node in tree.nodes[1:]] == [0.25, None, None, None]
    assert scorer.batches == [(("\nx = 1\n",),)]
    assert tree.tokens == 16


async def test_the_word_error_in_the_output_is_no_failure() -> None:
    execution = Execution(outcome=ExecutionOutcome.OK, stdout="standard error: 0.3\n")
    tree = Tree("p")
    await expander(tree, parts({(): [step("s")]}, executions={"s": execution})).expand(ROOT, n=1)
    assert tree.nodes[1].outcome is NodeOutcome.OPEN


async def test_survivors_are_scored_in_one_batch_as_first_visits() -> None:
    scorer = FunctionScorer(lambda path: 0.5 if "a" in path.steps[-1].text else -0.5)
    tree = Tree("p")
    await expander(tree, parts({(): [step("a"), step("b")]}, scorer=scorer)).expand(ROOT, n=2)
    assert len(scorer.batches) == 1
    assert [(node.value, node.visits, node.prior_visits) for node in tree.nodes[1:]] == [(0.5, 1, 1), (-0.5, 1, 1)]


async def test_terminal_guided_nodes_start_without_a_visit() -> None:
    scorer = FunctionScorer(lambda path: 0.5)
    script: dict[PathKey, list[Candidate]] = {(): [last_step("a")], ("\na\n",): [answer("7")]}
    tree = Tree("p")
    growing = expander(tree, parts(script, scorer=scorer), SearchConfig(values=Values.TERMINAL_GUIDED))
    await growing.expand(ROOT, n=1)
    await growing.expand(NodeId(1), n=1)
    assert [(node.score, node.visits, node.value_sum) for node in tree.nodes[1:]] == [(None, 0, 0), (0.5, 0, 0)]
    assert tree.nodes[2].terminal_value == 0.5


async def test_a_judge_gives_terminal_values_instead_of_the_ppm() -> None:
    script: dict[PathKey, list[Candidate]] = {(): [last_step("a")], ("\na\n",): [answer("7"), answer("8")]}
    tree = Tree("p")
    growing = expander(tree, parts(script, judge=AnswerKey("7")))
    await growing.expand(ROOT, n=2)
    await growing.expand(NodeId(1), n=2)
    assert [(node.answer, node.terminal_value, node.score, node.visits) for node in tree.nodes[2:]] == [
        ("7", 1.0, None, 0),
        ("8", -1.0, None, 0),
    ]


async def test_one_answer_leaves_its_siblings_alone() -> None:
    script: dict[PathKey, list[Candidate]] = {(): [last_step("a")], ("\na\n",): [answer("7"), answer("8")]}
    tree = Tree("p")
    growing = expander(tree, parts(script))
    await growing.expand(ROOT, n=2)
    await growing.expand(NodeId(1), n=2)
    assert [node.answer for node in tree.nodes[2:]] == ["7", "8"]


async def test_each_step_runs_from_its_parents_snapshot() -> None:
    runner = ScriptedRunner()
    script: dict[PathKey, list[Candidate]] = {(): [step("a"), step("b")], ("\nb\n",): [step("c"), step("d")]}
    given = Parts(
        policy=ScriptedPolicy(script),
        runner=runner,
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    growing = expander(Tree("p"), given)
    await growing.expand(ROOT, n=2)
    await growing.expand(NodeId(2), n=2)
    assert runner.ran == [(None, "a"), (None, "b"), ("/b", "c"), ("/b", "d")]


async def test_models_see_the_output_of_the_last_code_step() -> None:
    seen: list[str | None] = []

    def score(path: Path) -> float:
        seen.append(path.steps[-1].output)
        return 0.0

    tree = Tree("p")
    given = parts(
        {(): [step("a"), last_step("b")]}, executions={"a": PRINTING, "b": PRINTING}, scorer=FunctionScorer(score)
    )
    await expander(tree, given).expand(ROOT, n=2)
    assert seen[0] is None
    assert seen[1] is not None
    assert "42" in seen[1]
    assert tree.path(NodeId(2)).steps[-1].output == seen[1]


async def test_code_that_ended_badly_shows_no_output() -> None:
    tree = Tree("p")
    await expander(tree, parts({(): [last_step("a")]}, executions={"a": FAILING})).expand(ROOT, n=1)
    assert tree.path(NodeId(1)).steps[-1].output is None


async def test_a_node_whose_candidates_all_fail_is_childless() -> None:
    tree = Tree("p")
    added = await expander(tree, parts({(): [step("a")]}, executions={"a": FAILING})).expand(ROOT, n=1)
    assert added == [1]
    assert tree.root.outcome is NodeOutcome.CHILDLESS


async def test_nothing_is_run_on_the_last_level() -> None:
    runner = ScriptedRunner()
    given = Parts(
        policy=ScriptedPolicy({(): [step("a")]}),
        runner=runner,
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    tree = Tree("p")
    await expander(tree, given, SearchConfig(max_depth=1)).expand(ROOT, n=1)
    assert tree.nodes[1].outcome is NodeOutcome.TOO_DEEP
    assert runner.ran == []


async def test_a_path_too_long_for_the_policy_closes_the_node() -> None:
    @dataclass
    class FullPolicy:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise PathTooLong

    tree = Tree("p")
    given = Parts(policy=FullPolicy(), runner=ScriptedRunner(), equality=StringEquality())
    assert await expander(tree, given).expand(ROOT, n=2) == []
    assert tree.root.outcome is NodeOutcome.TOO_DEEP
    assert tree.root.is_finished


async def test_a_lost_state_closes_the_node_that_lost_it() -> None:
    tree = Tree("p")
    script: dict[PathKey, list[Candidate]] = {
        (): [step("a"), step("z")],
        ("\na\n",): [step("b")],
        ("\na\n", "\nb\n"): [step("c")],
    }
    growing = expander(tree, parts(script, executions={"a": PRINTING}))
    await growing.expand(ROOT, n=2)
    await growing.expand(NodeId(1), n=1)
    # Another run: the runner is new, and step a prints nothing this time.
    assert await expander(tree, parts(script)).expand(NodeId(3), n=1) == []
    node = tree.nodes[1]
    assert node.outcome is NodeOutcome.CODE_FAILED
    assert node.execution is not None
    assert node.execution.outcome is ExecutionOutcome.LOST
    assert node.execution.stdout == "42\n"
    assert tree.root.outcome is NodeOutcome.OPEN


async def test_more_candidates_than_asked_for_are_left_out() -> None:
    class Generous:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            return [step(f"x = {i}") for i in range(n + 3)]

    tree = Tree("p")
    given = Parts(policy=Generous(), runner=ScriptedRunner(), equality=StringEquality())
    await expander(tree, given, SearchConfig(strategy=Strategy.MAJORITY)).expand(ROOT, n=2)
    assert len(tree.root.children) == 2


async def test_the_code_of_one_expansion_runs_at_the_same_time() -> None:
    class Meeting:
        """Blocks all calls until all three have arrived."""

        def __init__(self) -> None:
            self.barrier = asyncio.Barrier(3)

        async def run(self, parent: Snapshot | None, code: str) -> Execution:
            await self.barrier.wait()
            return Execution(outcome=ExecutionOutcome.OK, snapshot=Snapshot(code))

    given = Parts(
        policy=ScriptedPolicy({(): [step("a"), step("b"), step("c")]}),
        runner=Meeting(),
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    async with asyncio.timeout(5):
        assert await expander(Tree("p"), given).expand(ROOT, n=3) == [1, 2, 3]


async def test_a_broken_runner_ends_the_expansion_with_its_exception() -> None:
    class Broken:
        async def run(self, parent: Snapshot | None, code: str) -> Execution:
            raise ConnectionError("sandbox is gone")

    tree = Tree("p")
    given = Parts(policy=ScriptedPolicy({(): [step("a"), step("b")]}), runner=Broken(), equality=StringEquality())
    with pytest.raises(ConnectionError, match="sandbox is gone"):
        await expander(tree, given).expand(ROOT, n=2)
    assert len(tree.nodes) == 1


async def test_a_policy_without_candidates_is_broken() -> None:
    with pytest.raises(BrokenPart, match="policy returned 0 of 4 candidates"):
        await expander(Tree("p"), parts({(): []})).expand(ROOT, n=4)


@pytest.mark.parametrize("score", [1.5, -1.01, float("nan"), float("inf")])
async def test_a_score_out_of_range_is_a_broken_part(score: float) -> None:
    tree = Tree("p")
    with pytest.raises(BrokenPart, match=r"PPM score must lie in \[-1, 1\]"):
        await expander(tree, parts({(): [step("a")]}, scorer=FunctionScorer(lambda path: score))).expand(ROOT, n=1)
    assert len(tree.nodes) == 1


async def test_a_missing_score_is_a_broken_part() -> None:
    class Forgetful:
        async def score(self, paths: Sequence[Path]) -> Sequence[float]:
            return [0.0] * (len(paths) - 1)

    given = Parts(
        policy=ScriptedPolicy({(): [step("a"), step("b")]}),
        runner=ScriptedRunner(),
        equality=StringEquality(),
        scorer=Forgetful(),
    )
    with pytest.raises(BrokenPart, match="1 scores for 2 paths"):
        await expander(Tree("p"), given).expand(ROOT, n=2)


async def test_a_step_too_long_for_the_ppm_closes_without_its_siblings() -> None:
    def score(path: Path) -> float:
        if path.steps[-1].text.strip() == "print(10**2000)":
            raise PathTooLong("the path has 2100 tokens, the model's context 1536")
        return 0.5

    tree = Tree("p")
    proposed = [step("print(10**2000)"), step("x = 1")]
    await expander(tree, parts({(): proposed}, scorer=FunctionScorer(score))).expand(ROOT, n=2)
    assert [(node.outcome, node.score) for node in tree.nodes[1:]] == [
        (NodeOutcome.TOO_DEEP, None),
        (NodeOutcome.OPEN, 0.5),
    ]


async def test_a_proposal_changes_nothing_before_it_is_applied() -> None:
    tree = Tree("p")
    growing = Expander(tree, config=SearchConfig(), seed=7)
    proposal = await propose(growing.plan(ROOT, n=2), parts=parts({(): [step("a"), step("b")]}), config=SearchConfig())
    assert (len(tree.nodes), tree.applied) == (1, 0)
    assert growing.apply(proposal) == [1, 2]
    assert tree.applied == 1


async def test_results_are_numbered_closed_nodes_included() -> None:
    class FullPolicy:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            raise PathTooLong

    tree = Tree("p")
    given = Parts(policy=FullPolicy(), runner=ScriptedRunner(), equality=StringEquality())
    await expander(tree, given).expand(ROOT, n=2)
    assert tree.applied == 1


async def test_a_restored_state_is_used_by_the_next_expansion() -> None:
    script: dict[PathKey, list[Candidate]] = {(): [step("a")], ("\na\n",): [step("b"), step("c")]}
    tree = Tree("p")
    await expander(tree, parts(script)).expand(ROOT, n=1)
    runner = ScriptedRunner()
    loaded = Parts(
        policy=ScriptedPolicy({**script, ("\na\n", "\nb\n"): [step("d")]}),
        runner=runner,
        equality=StringEquality(),
        scorer=FunctionScorer(lambda path: 0.0),
    )
    growing = expander(tree, loaded)
    await growing.expand(NodeId(1), n=2)
    await growing.expand(NodeId(2), n=1)
    assert runner.ran == [(None, "a"), ("/a", "b"), ("/a", "c"), ("/a/b", "d")]


def path(*texts: str, problem: str = "p", stop: CandidateStop = CandidateStop.END_OF_STEP) -> Path:
    return Path(problem=problem, steps=tuple(PathStep(text=text, token_ids=(), stop=stop) for text in texts))


def test_the_same_request_gets_the_same_seed() -> None:
    assert request_seed(1, path("a", "b"), draw=0) == request_seed(1, path("a", "b"), draw=0)


def test_seeds_do_not_change_between_releases() -> None:
    assert request_seed(0, path(), draw=0) == 3877063743378195959


@pytest.mark.parametrize(
    "other",
    [
        request_seed(2, path("a", "b"), draw=0),
        request_seed(1, path("a", "b"), draw=1),
        request_seed(1, path("ab"), draw=0),
        request_seed(1, path("a", "b", problem="q"), draw=0),
        request_seed(1, path("a", "b", stop=CandidateStop.END_OF_CODE), draw=0),
        request_seed(11, path("a", "b"), draw=0),
    ],
)
def test_any_other_request_gets_another_seed(other: int) -> None:
    assert other != request_seed(1, path("a", "b"), draw=0)


def test_seeds_fit_into_a_signed_64_bit_number() -> None:
    seeds = [request_seed(seed, path(), draw=0) for seed in range(200)]
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62


def test_a_problem_that_is_not_valid_unicode_has_a_seed() -> None:
    assert request_seed(0, path(problem="\ud800"), draw=0) >= 0
