"""Rollouts: which trees the passes make, how they are judged and kept, and what a resumed round adds."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest

from search import Budget, Node, NodeOutcome, SearchConfig, Tree, Values
from search.testing.fakes import StringEquality
from server.bundle.folders import bundled_models
from tests.training.evaluation.arithmetic import arithmetic_searcher, sums
from training.problems.families import family_problems
from training.problems.grader import Grader
from training.problems.problem import Problem
from training.recipe import Engine, Pass, Round, Search
from training.rollouts import LabelJudge, RollOut, Trees, Wanted, roll_out, seed_of, training_seed
from training.workers import Result

ONE_BY_ONE = Engine(processes=1, concurrency=1, precision="float32")
PASSES = (
    Pass(trajectories=1),
    Pass(trajectories=8, only="unsolved"),
    Pass(trajectories=2, trees=2, only="unsolved"),
)
NEVER = "sums/6"
"""The problem whose label no answer equals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArithmeticRollOut(RollOut):
    """Searches the arithmetic world; notes what was made."""

    made: list[str] = field(default_factory=list[str])

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Callable[[Wanted], Awaitable[Result]]]:
        searcher = arithmetic_searcher(0.3, has_ppm=self.settings.values is Values.PPM)
        make = partial(self.make_tree, searcher=searcher, grader=Grader(StringEquality()))

        async def make_and_note(wanted: Wanted) -> Result:
            self.made.append(wanted.key)
            return await make(wanted)

        yield make_and_note


def rolling_out(*passes: Pass, values: Values = Values.TERMINAL_GUIDED, seed: int = 3) -> ArithmeticRollOut:
    return ArithmeticRollOut(
        policy=Path("policy"),
        ppm=Path("ppm"),
        settings=Round(values=values, candidates=3, passes=passes or PASSES),
        search=Search(),
        engine=ONE_BY_ONE,
        seed=seed,
    )


def problems() -> list[Problem]:
    *solvable, never = sums(7)
    return [*solvable, replace(never, answer="999")]


def lines(folder: Path) -> list[bytes]:
    return (folder / "part-0.jsonl").read_bytes().splitlines(keepends=True)


def is_solved(*trees: Tree) -> bool:
    return any(node.terminal_value == 1.0 for tree in trees for node in tree.nodes)


def test_a_pass_over_the_unsolved_leaves_out_the_solved(tmp_path: Path) -> None:
    roll_out(rolling_out(), problems(), tmp_path)
    trees = Trees(tmp_path)
    assert list(trees) == [problem.id for problem in problems()]
    for found in trees.values():
        wanted = 1 if is_solved(found[0]) else 2 if is_solved(found[1]) else 4
        assert len(found) == wanted
    assert {len(found) for found in trees.values()} == {1, 2, 4}
    budgets = (1, 8, 2, 2)  # a search that finds nothing new ends before
    assert all(1 <= tree.trajectories <= most for tree, most in zip(trees[NEVER], budgets, strict=True))


def test_every_tree_of_a_problem_has_a_seed_of_its_own(tmp_path: Path) -> None:
    roll_out(rolling_out(Pass(trajectories=4, trees=3)), problems()[:1], tmp_path)
    first, second, third = Trees(tmp_path)["sums/0"]
    assert first != second
    assert second != third
    assert first != third


def test_another_seed_gives_other_trees(tmp_path: Path) -> None:
    for seed in (1, 2):
        roll_out(rolling_out(Pass(trajectories=4), seed=seed), problems(), tmp_path / str(seed))
    one, other = (dict(Trees(tmp_path / str(seed))) for seed in (1, 2))
    assert one.keys() == other.keys()
    assert one != other


def test_trees_of_a_later_pass_over_all_are_not_lost(tmp_path: Path) -> None:
    work = rolling_out(Pass(trajectories=8), Pass(trajectories=1, only="unsolved"), Pass(trajectories=2))
    roll_out(work, problems(), tmp_path)
    assert {problem: len(trees) for problem, trees in Trees(tmp_path).items()} == {
        problem.id: 3 if problem.id == NEVER else 2 for problem in problems()
    }


def test_a_resumed_round_makes_only_what_is_missing(tmp_path: Path) -> None:
    whole = rolling_out()
    roll_out(whole, problems(), tmp_path / "whole")
    expected = lines(tmp_path / "whole")
    for finished in range(len(expected)):
        folder, again = tmp_path / f"after {finished}", rolling_out()
        folder.mkdir()
        (folder / "part-0.jsonl").write_bytes(b"".join(expected[:finished]) + expected[finished][:50])
        roll_out(again, problems(), folder)
        assert again.made == whole.made[finished:]
        assert lines(folder) == expected


def test_trees_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    problem = problems()[0]
    roll_out(rolling_out(Pass(trajectories=6)), [problem], tmp_path)
    config = SearchConfig(candidates=3, values=Values.TERMINAL_GUIDED)
    judge = LabelJudge(Grader(StringEquality()), problem)
    made = arithmetic_searcher(0.3, has_ppm=False).search(
        problem.question, config=config, budget=Budget(trajectories=6), seed=seed_of(3, "sums/0#0"), judge=judge
    )
    assert Trees(tmp_path)["sums/0"] == [asyncio.run(made).tree]


def test_a_problem_without_trees_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="sums/0"):
        Trees(tmp_path)["sums/0"]


async def test_the_judge_gives_one_for_right_and_minus_one_for_wrong() -> None:
    judge = LabelJudge(Grader(StringEquality()), problems()[0])
    assert [await judge.value(answer) for answer in ("8", "9", "no number")] == [1.0, -1.0, -1.0]


def ends(tree: Tree) -> list[Node]:
    return [node for node in tree.nodes if node.outcome is NodeOutcome.ANSWERED]


def test_ends_of_trajectories_are_judged_and_never_scored(tmp_path: Path) -> None:
    roll_out(rolling_out(Pass(trajectories=8), values=Values.PPM), problems(), tmp_path)
    trees = [tree for found in Trees(tmp_path).values() for tree in found]
    assert {end.terminal_value for tree in trees for end in ends(tree)} == {1.0, -1.0}
    assert all(end.score is None for tree in trees for end in ends(tree))
    steps = [node for tree in trees for node in tree.nodes[1:] if node.outcome is NodeOutcome.OPEN]
    assert steps
    assert all(step.score is not None and step.prior_visits == 1 for step in steps)


def test_terminal_guided_steps_have_no_score(tmp_path: Path) -> None:
    roll_out(rolling_out(Pass(trajectories=8)), problems(), tmp_path)
    assert all(node.score is None for trees in Trees(tmp_path).values() for tree in trees for node in tree.nodes)


def test_seeds_are_the_same_in_every_process_and_all_different() -> None:
    assert seed_of(1, "round-1") == int.from_bytes(hashlib.sha256(b"1/round-1").digest()[:8], "big")
    assert len({seed_of(1, f"round-{number}") for number in range(100)}) == 100
    assert 0 <= training_seed(1, "round-1", "ppm") < 2**32


@pytest.mark.slow
def test_real_trees_have_the_same_bytes_every_time(tmp_path: Path) -> None:
    models = bundled_models()
    work = RollOut(
        policy=models.policy,
        ppm=models.ppm,
        settings=Round(values=Values.PPM, candidates=3, passes=(Pass(trajectories=3),)),
        search=Search(),
        engine=ONE_BY_ONE,
        seed=1,
    )
    drawn = family_problems("leg_counting", 2)
    for name in ("once", "twice"):
        roll_out(work, drawn, tmp_path / name)
    assert lines(tmp_path / "once") == lines(tmp_path / "twice")
    trees = [tree for found in Trees(tmp_path / "once").values() for tree in found]
    assert len(trees) == 2
    executions = [node.execution for tree in trees for node in tree.nodes if node.execution is not None]
    assert executions
    assert {execution.cpu_seconds for execution in executions} == {0.0}
    assert all(end.score is None for tree in trees for end in ends(tree))


@pytest.mark.slow
def test_terminal_guided_rollouts_open_no_ppm(tmp_path: Path) -> None:
    work = RollOut(
        policy=bundled_models().policy,
        ppm=tmp_path / "no ppm",
        settings=Round(values=Values.TERMINAL_GUIDED, candidates=2, passes=(Pass(trajectories=1),)),
        search=Search(),
        engine=ONE_BY_ONE,
        seed=1,
    )
    roll_out(work, family_problems("gcd", 1), tmp_path / "trees")
    assert len(Trees(tmp_path / "trees")) == 1
