"""Races: attacks that need more than a snippet: several trees at once, help from outside, processes that must end.

Each is an async function on an open arena that raises AssertionError where something is wrong. Those that break a
sandbox on purpose make one of their own.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from sandbox import Limits, Outcome, Sandbox, SandboxUnavailable, SnapshotId, StepResult, Tree
from tests.sandbox.hostile.arena import Arena
from tests.sandbox.hostile.cases import LIMITS
from tests.sandbox.hostile.configurations import sandbox_of
from tests.sandbox.processes import (
    Process,
    close_listeners,
    family_of,
    is_computing,
    is_gone,
    nodes_of,
    until,
)

_ENDED = {Outcome.LOST, Outcome.CRASHED, Outcome.VIOLATION, Outcome.TIMEOUT_CPU, Outcome.TIMEOUT_WALL}
_PATIENT = Limits(cpu_s=20, wall_s=60, memory_mb=256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One attack that is a scenario."""

    number: int
    name: str
    attack: Callable[[Arena], Awaitable[None]]
    kind: str = "races"
    is_slow: bool = False
    """Starts a sandbox of its own, or runs into a deadline."""

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.name.replace(' ', '-')}"

    def run(self, arena: Arena) -> Coroutine[None, None, list[str]]:
        async def attack() -> list[str]:
            await self.attack(arena)
            return []

        return attack()


async def _forge_then_fork(arena: Arena) -> None:
    async with arena.sandbox.tree() as tree:
        start = await arena.attacked(tree)
        forged = await tree.run(start, "os.write(channels()[0], FORGED)\nwhile True: pass")
        if forged.outcome is Outcome.OK:
            await _assert_idle(arena.sandbox)
            child = await tree.run(forged.snapshot, "print(1 + 1)")
            assert child.outcome in _ENDED, child
        else:
            assert forged.outcome in _ENDED, forged
        await _assert_idle(arena.sandbox)


async def _assert_idle(sandbox: Sandbox) -> None:
    """No process below the zygote computes while no step is running."""

    def is_idle() -> bool:
        return all(process.state != "R" for process in family_of(sandbox.zygote_pid).values())

    assert await until(is_idle), family_of(sandbox.zygote_pid)


async def _share_memory(arena: Arena) -> None:
    code = """
import mmap
try:
    area = mmap.mmap(-1, 4096)
    area[:5] = b"empty"
except (OSError, ValueError):
    area = bytearray(b"empty")
"""
    async with arena.sandbox.tree() as tree:
        parent = await tree.run(await arena.attacked(tree), code)
        assert parent.outcome is Outcome.OK, parent
        left = await tree.run(parent.snapshot, "area[:5] = b'taken'\nprint(bytes(area[:5]))")
        right = await tree.run(parent.snapshot, "print(bytes(area[:5]))")
        assert (left.stdout, right.stdout) == ("b'taken'\n", "b'empty'\n"), (left, right)


async def _hammer_the_gate(arena: Arena) -> None:
    hammering = """
made = 0
for _ in range(5000):
    try:
        made += in_parent(os.fork) > 0
    except OSError:
        pass
print(made)
"""
    async with arena.sandbox.tree() as hostile, arena.sandbox.tree() as peaceful:
        start, parent = await arena.attacked(hostile), await arena.attacked(peaceful)
        async with asyncio.TaskGroup() as group:
            hammer = group.create_task(hostile.run(start, hammering))
            siblings = group.create_task(_breed(peaceful, parent, count=20))
        assert hammer.result().stdout == "0\n", hammer.result()
        assert siblings.result() == ["42\n"] * 20


async def _breed(tree: Tree, parent: SnapshotId, *, count: int) -> list[str]:
    return [(await tree.run(parent, "print(6 * 7)")).stdout for _ in range(count)]


async def _look_into_another_tree(arena: Arena) -> None:
    planting = """
import sys, random
planted_name = ["planted " + "content " + str(6 * 7)]
sys.planted = random.planted = 1
"""
    looking = """
import gc, random, sys
found = [known for known in gc.get_objects() if type(known) is list and "planted " + "content " + str(6 * 7) in known]
print("planted_name" in globals(), hasattr(sys, "planted"), hasattr(random, "planted"), len(found))
"""
    async with arena.sandbox.tree() as first, arena.sandbox.tree() as second:
        planted = await first.run(await arena.attacked(first), planting)
        assert planted.outcome is Outcome.OK, planted
        seen = await second.run(await arena.attacked(second), looking)
        assert seen.stdout == "False False False 0\n", seen
        below = await first.run(planted.snapshot, looking)
        assert below.stdout.startswith("True True True"), below


async def _kill_the_first_process_of_a_tree(arena: Arena) -> None:
    async with sandbox_of(arena.configuration, limits=LIMITS) as sandbox, sandbox.tree() as other:
        beside = await other.run(None, "x = 6")
        others = set(family_of(sandbox.zygote_pid))
        tree = sandbox.tree()
        states = [await arena.attacked(tree)]
        for number in range(4):
            result = await tree.run(states[-1], f"x = {number}")
            assert result.snapshot is not None, result
            states.append(result.snapshot)
        table = family_of(sandbox.zygote_pid)
        parents = {process.parent for process in table.values()} & table.keys()
        ours = {pid for pid in parents if not _descendants(table, pid) & others}
        roots = {pid for pid in ours if table[pid].parent not in ours}
        assert len(roots) == 1, (roots, table)
        (root,) = roots
        victims = {root, *_descendants(table, root)}
        assert len(victims) >= 5, victims
        os.kill(root, signal.SIGKILL)
        assert await until(lambda: not victims & family_of(sandbox.zygote_pid).keys()), victims
        result = await tree.run(states[2], "print(x)")
        assert (result.outcome, result.stdout) in {(Outcome.OK, "1\n"), (Outcome.LOST, "")}, result
        assert (await other.run(beside.snapshot, "print(x * 7)")).stdout == "42\n"
        await tree.close()


def _descendants(table: dict[int, Process], root: int) -> set[int]:
    found: set[int] = set()
    level = {root}
    while level:
        level = {pid for pid, process in table.items() if process.parent in level}
        found |= level
    return found


_SERVER = """
import asyncio, sys
from sandbox import Limits
from tests.sandbox.hostile.configurations import Configuration, sandbox_of
from tests.sandbox.processes import family_of, is_computing, nodes_of, until

async def main():
    limits = Limits(cpu_s=60, wall_s=60)
    async with sandbox_of(Configuration(sys.argv[1]), limits=limits) as sandbox, sandbox.tree() as tree:
        parent = await tree.run(None, "x = 1")
        for _ in range(4):
            await tree.run(parent.snapshot, "y = 2")
        async with asyncio.TaskGroup() as group:
            group.create_task(tree.run(parent.snapshot, "while True: pass"))
            group.create_task(tree.run(parent.snapshot, "import time; time.sleep(60)"))
            assert await until(lambda: any(map(is_computing, nodes_of(sandbox.zygote_pid))))
            print(sandbox.zygote_pid, *family_of(sandbox.zygote_pid), flush=True)

asyncio.run(main())
"""


async def _kill_the_server(arena: Arena) -> None:
    command = [sys.executable, "-B", "-c", _SERVER, arena.configuration]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220  # returns at once
    assert server.stdout is not None
    pids = [int(word) for word in (await asyncio.to_thread(server.stdout.readline)).split()]
    pidfds = [os.pidfd_open(pid) for pid in pids]
    try:
        assert len(pids) >= 3, pids
        server.kill()
        server.wait()
        assert await until(lambda: all(is_gone(pidfd, within_s=0) for pidfd in pidfds))
    finally:
        for pidfd in pidfds:
            os.close(pidfd)
        server.stdout.close()


async def _kill_the_zygote(arena: Arena) -> None:
    async with sandbox_of(arena.configuration, limits=_PATIENT) as sandbox, sandbox.tree() as tree:
        state = (await tree.run(None, "x = 6")).snapshot
        for generation in range(2):
            await _answer(tree, state, "1")  # the tree's processes are there again
            first = sandbox.zygote_pid
            assert first is not None
            family = family_of(first)
            # The first process of the session, and then one that it made, whichever of them it is that forks trees.
            victim = first if generation == 0 else min(pid for pid, p in family.items() if p.parent == first)
            async with asyncio.TaskGroup() as group:
                running = group.create_task(_outcome(tree, state, "while True: pass"))
                assert await until(lambda first=first: any(map(is_computing, nodes_of(first))))
                os.kill(victim, signal.SIGKILL)
            assert running.result() in {Outcome.LOST, Outcome.CRASHED, None}, running.result()
            assert await until(lambda first=first, family=family: not family.keys() & family_of(first).keys())
            again = await _answer(tree, state, "print(x * 7)")
            assert (again.outcome, again.stdout) in {(Outcome.OK, "42\n"), (Outcome.LOST, "")}, again
            async with sandbox.tree() as fresh:
                assert (await _answer(fresh, None, "print(6 * 7)")).stdout == "42\n"
            assert sandbox.zygote_pid not in (None, first)


async def _outcome(tree: Tree, state: SnapshotId | None, code: str) -> Outcome | None:
    """None where the sandbox says that it is unavailable: nothing of the step has run."""
    try:
        return (await tree.run(state, code)).outcome
    except SandboxUnavailable:
        return None


async def _answer(tree: Tree, state: SnapshotId | None, code: str) -> StepResult:
    """The result of a step, asked for again where a sandbox that was just broken says so: it must come round."""
    for _ in range(5):
        try:
            return await tree.run(state, code)
        except SandboxUnavailable:
            continue
    return await tree.run(state, code)


async def _bomb_beside_many_snapshots(arena: Arena) -> None:
    bomb = "kept = []\nwhile True: kept.append(bytearray(b'x' * (1 << 20)))"
    trees = [arena.sandbox.tree(seed=number) for number in range(10)]
    try:
        states = [(await tree.run(None, f"x = {number}")).snapshot for number, tree in enumerate(trees)]
        for tree, state in zip(trees, states, strict=True):
            for _ in range(20):
                grown = await tree.run(state, "y = list(range(1000))")
                assert grown.outcome is Outcome.OK, grown
        async with asyncio.TaskGroup() as group:
            bombs = [group.create_task(tree.run(state, bomb)) for tree, state in zip(trees, states, strict=True)]
        outcomes = {bomb.result().outcome for bomb in bombs}
        assert outcomes <= {Outcome.MEMORY, Outcome.CRASHED, Outcome.TIMEOUT_CPU}, outcomes
        answers = [(await tree.run(state, "print(x)")).stdout for tree, state in zip(trees, states, strict=True)]
        assert answers == [f"{number}\n" for number in range(10)], answers
    finally:
        for tree in trees:
            await tree.close()


async def _close_the_listener(arena: Arena) -> None:
    async with sandbox_of(arena.configuration, limits=_PATIENT) as sandbox, sandbox.tree() as tree:
        state = (await tree.run(None, "x = 6")).snapshot
        async with asyncio.TaskGroup() as group:
            steps = [group.create_task(tree.run(state, f"print(x * {number})")) for number in range(10)]
            await asyncio.sleep(0)
            close_listeners()
        for number, step in enumerate(steps):
            result = step.result()
            assert (result.outcome, result.stdout) in {(Outcome.OK, f"{6 * number}\n"), (Outcome.LOST, "")}, result
        async with sandbox.tree() as fresh:
            assert (await fresh.run(None, "print(6 * 7)")).stdout == "42\n"


async def _replay_what_differs(arena: Arena) -> None:
    async with sandbox_of(arena.configuration, limits=LIMITS) as sandbox, sandbox.tree() as tree:
        steady = await tree.run(None, "import random\nx = random.random()\nprint(x)")
        fickle = await tree.run(None, "import os\nx = os.urandom(8).hex()\nprint(x)")
        table = family_of(sandbox.zygote_pid)
        launched = {pid for pid, process in table.items() if process.parent == sandbox.zygote_pid}
        roots = {pid for pid, process in table.items() if process.parent in launched}
        for pid in table.keys() - launched - roots:
            os.kill(pid, signal.SIGKILL)
        again = await _answer(tree, steady.snapshot, "print(x)")
        assert (again.outcome, again.stdout) == (Outcome.OK, steady.stdout), again
        lost = await _answer(tree, fickle.snapshot, "print(x)")
        assert lost.outcome is Outcome.LOST, lost


RACES = (
    Race(number=94, name="forges its report, loops, and is asked for a child", attack=_forge_then_fork, is_slow=True),
    Race(number=112, name="shares memory between siblings", attack=_share_memory),
    Race(number=115, name="hammers the fork gate while others fork", attack=_hammer_the_gate),
    Race(number=116, name="looks for the variables of another tree", attack=_look_into_another_tree),
    Race(number=117, name="loses the first process of a tree", attack=_kill_the_first_process_of_a_tree, is_slow=True),
    Race(number=118, name="loses the server", attack=_kill_the_server, is_slow=True),
    Race(number=119, name="loses the zygote", attack=_kill_the_zygote, is_slow=True),
    Race(
        number=120, name="sets off bombs beside two hundred snapshots", attack=_bomb_beside_many_snapshots, is_slow=True
    ),
    Race(number=121, name="loses the listener under load", attack=_close_the_listener, is_slow=True),
    Race(number=122, name="replays a step that never ends the same", attack=_replay_what_differs, is_slow=True),
)
