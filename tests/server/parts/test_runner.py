"""The sandbox as search's code runner."""

from typing import get_type_hints

import pytest

from sandbox import Limits, Outcome, Sandbox, SandboxMisuse
from search.outcomes import ExecutionOutcome
from search.protocols import CodeRunner, Execution, Snapshot
from server.parts.runner import SandboxRunner


async def test_steps_build_on_snapshots_and_failures_are_typed() -> None:
    async with Sandbox(limits=Limits(cpu_s=1)) as sandbox, sandbox.tree(seed=3) as tree:
        runner: CodeRunner = SandboxRunner(tree)
        first = await runner.run(None, "x = 6\nprint('error')")
        assert first.outcome is ExecutionOutcome.OK
        assert first.stdout == "error\n"
        second = await runner.run(first.snapshot, "x * 7")
        assert (second.outcome, second.value, second.error) == (ExecutionOutcome.OK, "42", None)
        assert second.snapshot not in (None, first.snapshot)
        failed = await runner.run(first.snapshot, "undefined")
        assert failed == Execution(
            outcome=ExecutionOutcome.ERROR,
            error="NameError: name 'undefined' is not defined",
            cpu_seconds=failed.cpu_seconds,
        )
        crashed = await runner.run(None, "import os; os._exit(0)")
        assert crashed.outcome is ExecutionOutcome.CRASHED
        with pytest.raises(SandboxMisuse):
            await runner.run(Snapshot("nowhere"), "1")


def test_every_outcome_of_the_sandbox_has_its_counterpart() -> None:
    assert get_type_hints(SandboxRunner.run)["return"] is Execution
    assert {outcome.name: outcome.value for outcome in Outcome} == {
        outcome.name: outcome.value for outcome in ExecutionOutcome
    }
