"""The fakes keep the contracts of the Protocols they stand in for."""

import pytest

from search.outcomes import ExecutionOutcome, Verdict
from search.protocols import Path, Snapshot
from search.testing.fakes import (
    ArithmeticPolicy,
    ArithmeticRunner,
    ScriptedPolicy,
    ScriptedRunner,
    StringEquality,
    answer,
    step,
)


async def test_arithmetic_steps_leave_the_parents_state_unchanged() -> None:
    runner = ArithmeticRunner()
    first = await runner.run(None, "\n# start\ntotal = 3\n")
    second = await runner.run(first.snapshot, "\ntotal = total + 4\nprint(total + 1)\n")
    assert (second.outcome, second.stdout) == (ExecutionOutcome.OK, "8\n")
    assert (await runner.run(first.snapshot, "print(total)")).stdout == "3\n"


@pytest.mark.parametrize("code", ["print(x)", "import os", "x = __import__('os')", "x =", "f(1) = 2", "while True:"])
async def test_arithmetic_refuses_what_it_does_not_know(code: str) -> None:
    execution = await ArithmeticRunner().run(None, code)
    assert execution.outcome is ExecutionOutcome.ERROR
    assert execution.error
    assert execution.snapshot is None


@pytest.mark.parametrize("runner", [ArithmeticRunner(), ScriptedRunner()])
async def test_an_unknown_snapshot_is_lost(runner: ArithmeticRunner | ScriptedRunner) -> None:
    assert (await runner.run(Snapshot("nowhere"), "x = 1")).outcome is ExecutionOutcome.LOST


async def test_the_same_request_gives_the_same_candidates() -> None:
    policy = ArithmeticPolicy()
    path = Path(problem="1+2")
    assert await policy.propose(path, 8, seed=1) == await policy.propose(path, 8, seed=1)
    assert await policy.propose(path, 8, seed=1) != await policy.propose(path, 8, seed=2)


async def test_a_script_proposes_at_most_n_and_names_what_it_lacks() -> None:
    policy = ScriptedPolicy({(): [step("a"), answer("7")]})
    assert await policy.propose(Path(problem="p"), 1, seed=0) == [step("a")]
    with pytest.raises(LookupError, match="no candidates after"):
        await ScriptedPolicy({}).propose(Path(problem="p"), 1, seed=0)


async def test_equality_of_texts_is_symmetric_and_never_doubts_itself() -> None:
    equality = StringEquality(unknown=frozenset({frozenset(("1", "2"))}))
    assert await equality.same("1", " 1 ") is Verdict.SAME
    assert await equality.same("1", "2") is await equality.same("2", "1") is Verdict.UNKNOWN
    assert await equality.same("1", "3") is Verdict.DIFFERENT
