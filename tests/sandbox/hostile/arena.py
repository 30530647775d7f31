"""Arena: one open sandbox that runs cases, and checks after each that nothing else was touched."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

from sandbox import Limits, Sandbox, SandboxError, SnapshotId, StepResult, Tree
from tests.descriptors import open_descriptors
from tests.sandbox.hostile.cases import Case, judge, prelude
from tests.sandbox.hostile.configurations import Configuration, sandbox_of
from tests.sandbox.hostile.forgery import FORGED, GREETING
from tests.sandbox.hostile.ground import Ground
from tests.sandbox.hostile.shown import shown_folders
from tests.sandbox.processes import family_of, until

CASE_DEADLINE_S = 60.0
"""Far beyond every limit inside: only a hang gets there."""
PATIENCE_S = 30.0
"""For processes to go after their tree has closed, on a busy machine."""
_CALM_CHECKS = 10


class Arena:
    """A sandbox, a tree in it that no case touches, and how things stood before the first case."""

    def __init__(self, sandbox: Sandbox, sibling: Tree, *, configuration: Configuration, ground: Ground) -> None:
        self.sandbox = sandbox
        self.configuration = configuration
        self._sibling = sibling
        self._sibling_state: SnapshotId | None = None
        self._ground = ground
        self._zygote_pid = sandbox.zygote_pid
        self._max_processes = 0
        self._max_descriptors = 0
        self._prelude = prelude(
            {
                "FOLDER": str(ground.folder),
                "VICTIM": str(ground.victim),
                "PORT": ground.port,
                "SOURCE": __file__,
                "SHOWN": shown_folders(),
                "FORGED": FORGED,
                "GREETING": GREETING,
            }
        )

    async def prepare(self) -> None:
        """Let the sandbox reach the state that it has between cases, and note it."""
        self._sibling_state = (await self._sibling.run(None, "x = 6")).snapshot
        for _ in range(3):
            async with self.sandbox.tree() as tree:
                await tree.run(None, self._prelude)
        counts: list[int] = []

        def is_calm() -> bool:
            counts.append(len(family_of(self._zygote_pid)))
            return len(counts) >= _CALM_CHECKS and len(set(counts[-_CALM_CHECKS:])) == 1

        assert await until(is_calm, within_s=CASE_DEADLINE_S), counts
        self._max_processes = counts[-1]
        self._max_descriptors = len(open_descriptors())

    async def complaints_about(self, case: Case, *, is_alone: bool) -> list[str]:
        """Run a case and say what was wrong, with it and afterwards."""
        return await self.watched(self._attack(case), is_alone=is_alone)

    async def watched(self, attack: Coroutine[None, None, list[str]], *, is_alone: bool) -> list[str]:
        """Await an attack, then look around. `is_alone`: nothing else opens descriptors in this process meanwhile."""
        try:
            async with asyncio.timeout(CASE_DEADLINE_S):
                complaints = await attack
        except TimeoutError:
            complaints = ["hung"]
        except (SandboxError, AssertionError, ExceptionGroup):
            complaints = [traceback.format_exc(limit=-3)]
        return complaints + await self._aftermath(is_alone=is_alone)

    async def attacked(self, tree: Tree) -> SnapshotId:
        """The state in which attacks begin."""
        result = await tree.run(None, self._prelude)
        assert result.snapshot is not None, result
        return result.snapshot

    async def _attack(self, case: Case) -> list[str]:
        results: list[StepResult] = []
        async with self.sandbox.tree(seed=case.number) as tree:
            start = state = await self.attacked(tree)
            for step in case.steps:
                await asyncio.sleep(case.wait_s if results else 0)
                results.append(await tree.run(state, step))
                state = results[-1].snapshot
                if state is None:
                    break
            complaints = judge(case, results)
            after = await tree.run(start, case.after)
        if case.after_stdout is None:
            if after.error != "ValueError: 42":
                complaints.append(f"the state before the attack no longer answers: {after}")
        elif after.stdout != case.after_stdout:
            complaints.append(f"the state before the attack has changed: {after}")
        return complaints

    async def _aftermath(self, *, is_alone: bool) -> list[str]:
        complaints = self._ground.complaints()
        try:
            async with asyncio.timeout(CASE_DEADLINE_S):
                answer = await self._sibling.run(self._sibling_state, "raise ValueError(x * 7)")
            if answer.error != "ValueError: 42":
                complaints.append(f"the sibling tree no longer answers: {answer}")
        except (SandboxError, TimeoutError) as error:
            complaints.append(f"the sibling tree no longer answers: {error!r}")
        if self.sandbox.zygote_pid != self._zygote_pid:
            complaints.append("the zygote is another one")
            self._zygote_pid = self.sandbox.zygote_pid
        if not await until(lambda: len(family_of(self._zygote_pid)) <= self._max_processes, within_s=PATIENCE_S):
            processes = family_of(self._zygote_pid)
            complaints.append(f"{len(processes)} processes instead of {self._max_processes}")
            self._max_processes = len(processes)
        most = self._max_descriptors
        if is_alone and not await until(lambda: len(open_descriptors()) <= most, within_s=PATIENCE_S):
            self._max_descriptors = len(open_descriptors())
            complaints.append(f"{self._max_descriptors} descriptors instead of {most}")
        return complaints


@asynccontextmanager
async def open_arena(configuration: Configuration, ground: Ground, limits: Limits) -> AsyncGenerator[Arena]:
    """An arena ready for cases."""
    async with sandbox_of(configuration, limits=limits) as sandbox, sandbox.tree(seed=1) as sibling:
        arena = Arena(sandbox, sibling, configuration=configuration, ground=ground)
        await arena.prepare()
        yield arena
