"""Arena: one open sandbox in which cases run, each followed by a look at everything that it must not have touched."""

import asyncio
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager

from sandbox import Limits, Sandbox, SandboxError, SnapshotId, StepResult, Tree
from tests.sandbox.hostile.cases import Case, judge, prelude
from tests.sandbox.hostile.configurations import Configuration, sandbox_of
from tests.sandbox.hostile.forgery import FORGED, GREETING
from tests.sandbox.hostile.ground import Ground
from tests.sandbox.hostile.processes import open_descriptors, processes_of
from tests.sandbox.hostile.shown import shown_folders

CASE_DEADLINE_S = 60.0
"""Far beyond every limit inside: only a hang gets there."""
PATIENCE_S = 5.0
"""For processes to go after their tree has closed."""
_POLL_S = 0.02


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
        while len(counts) < 10 or len(set(counts[-10:])) > 1:
            await asyncio.sleep(_POLL_S)
            counts.append(len(processes_of(self._zygote_pid)))
        self._max_processes = counts[-1]
        self._max_descriptors = open_descriptors()

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
        if not await settled(lambda: len(processes_of(self._zygote_pid)) <= self._max_processes):
            processes = processes_of(self._zygote_pid)
            complaints.append(f"{len(processes)} processes instead of {self._max_processes}")
            self._max_processes = len(processes)
        if is_alone and not await settled(lambda: open_descriptors() <= self._max_descriptors):
            complaints.append(f"{open_descriptors()} descriptors instead of {self._max_descriptors}")
            self._max_descriptors = open_descriptors()
        return complaints


@asynccontextmanager
async def open_arena(configuration: Configuration, ground: Ground, limits: Limits) -> AsyncGenerator[Arena]:
    """An arena ready for cases."""
    async with sandbox_of(configuration, limits=limits) as sandbox, sandbox.tree(seed=1) as sibling:
        arena = Arena(sandbox, sibling, configuration=configuration, ground=ground)
        await arena.prepare()
        yield arena


async def settled(is_settled: Callable[[], bool]) -> bool:
    """Whether it comes true in a reasonable time; the kernel tells nobody."""
    for _ in range(round(PATIENCE_S / _POLL_S)):
        if is_settled():
            return True
        await asyncio.sleep(_POLL_S)
    return is_settled()
