"""Live snapshots and replays: what is kept, what is rebuilt, and that steps cannot see the difference."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from sandbox import CacheLimits, Limits, Outcome, Sandbox, SnapshotId, StepResult, Tree
from tests.sandbox.processes import nodes_of, until

PATIENT = Limits(cpu_s=20, wall_s=60)
DEAR = "import time\nspent = time.thread_time() + 0.01\nwhile time.thread_time() < spent: pass\n"
"""Too expensive for a replay in the next step's own process."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cramped() -> AsyncIterator[Sandbox]:
    """Keeps one snapshot of each tree."""
    async with Sandbox(limits=PATIENT, cache=CacheLimits(per_tree=1)) as sandbox:
        yield sandbox


PROGRAM = [
    "import random, numpy, sympy\nseen = [random.random()]\nprint(seen)",
    DEAR + "seen.append(numpy.random.rand())\nprint({str(x) for x in seen})",
    "seen.append(sympy.core.random.rng.random())\nlen(seen)",
    DEAR + "seen = seen + [hash('x')]\nseen",
    "print(sum(seen), random.random())",
]


Result = tuple[Outcome, str, str | None, str | None]


async def _grow(tree: Tree, levels: int, parent: SnapshotId | None = None, *, width: int = 2) -> list[Result]:
    """Run the program as a tree, breadth first, so that a small cache has to replay."""
    results: list[Result] = []
    parents = [parent]
    for depth in range(levels):
        children: list[SnapshotId | None] = []
        for node in parents:
            for number in range(width):
                result = await tree.run(node, f"{PROGRAM[depth]}\nprint({number})")
                results.append((result.outcome, result.stdout, result.value, result.error))
                children.append(result.snapshot)
        parents = children
    return results


@pytest.mark.parametrize(("levels", "steps"), [(3, 14), pytest.param(5, 62, marks=pytest.mark.slow)])
async def test_results_are_the_same_with_a_cache_of_one_snapshot(
    patient: Sandbox, cramped: Sandbox, levels: int, steps: int
) -> None:
    found: list[list[Result]] = []
    replays: list[int] = []
    for sandbox in (patient, cramped):
        before = sandbox.counters.replayed_steps
        async with sandbox.tree(seed=5) as tree:
            found.append(await _grow(tree, levels))
        replays.append(sandbox.counters.replayed_steps - before)
    assert found[0] == found[1]
    assert [result[0] for result in found[0]] == [Outcome.OK] * steps
    assert replays[1] > steps / 3
    assert replays[0] < replays[1] / 3  # the longer program outgrows the other cache too


async def test_a_live_parent_is_forked_and_nothing_runs_again(patient: Sandbox) -> None:
    before = patient.counters.replayed_steps
    async with patient.tree() as tree:
        parent = await tree.run(None, "print('once')\nx = [1]")
        for _ in range(3):
            child = await tree.run(parent.snapshot, "x.append(2)\nx")
            assert (child.stdout, child.value) == ("", "[1, 2]")
    assert patient.counters.replayed_steps == before


@pytest.mark.slow
async def test_the_bounds_of_the_cache_hold() -> None:
    cache = CacheLimits(per_tree=3, overall=5)
    async with Sandbox(limits=PATIENT, cache=cache) as sandbox:
        trees = [sandbox.tree(seed=number) for number in range(3)]
        for tree in trees:
            parent = None
            for _ in range(5):
                parent = (await tree.run(parent, "x = 1")).snapshot
            assert len(sandbox.snapshots) <= 5
        assert sandbox.status.live_snapshots == 5
        assert sandbox.counters.evictions == 10


async def test_the_newest_state_is_kept_however_cheap(cramped: Sandbox) -> None:
    counters = cramped.counters
    evictions, hits, replays = counters.evictions, counters.hits, counters.replayed_steps
    async with cramped.tree() as tree:
        dear = await tree.run(None, DEAR.replace("0.01", "0.1") + "x = 6")
        cheap = await tree.run(dear.snapshot, "y = 7")
        assert counters.evictions == evictions + 1
        assert (await tree.run(cheap.snapshot, "x * y")).value == "42"
        assert (counters.hits, counters.replayed_steps) == (hits + 2, replays)


@pytest.mark.slow
async def test_idle_trees_lose_their_processes_and_come_back() -> None:
    async with Sandbox(limits=PATIENT, cache=CacheLimits(trees=2)) as sandbox:
        trees = [sandbox.tree(seed=number) for number in range(5)]
        firsts = [await tree.run(None, f"x = {number}") for number, tree in enumerate(trees)]
        assert sandbox.status.live_trees == 2
        values = [(await tree.run(first.snapshot, "x")).value for tree, first in zip(trees, firsts, strict=True)]
        assert values == ["0", "1", "2", "3", "4"]


@pytest.mark.slow
async def test_a_state_too_big_to_keep_is_replayed() -> None:
    async with Sandbox(limits=PATIENT, cache=CacheLimits(snapshot_mb=20)) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, "x = bytearray(b'1') * (30 << 20)")
        assert sandbox.status.live_snapshots == 0
        assert (await tree.run(first.snapshot, "len(x)")).value == str(30 << 20)


@pytest.mark.slow
async def test_a_state_without_room_is_replayed_as_often_as_needed() -> None:
    cache = CacheLimits(overall_mb=4, snapshot_mb=100)
    async with Sandbox(limits=PATIENT, cache=cache) as sandbox, sandbox.tree() as tree:
        first = await tree.run(None, DEAR + "x = bytearray(b'1') * (10 << 20)")
        second = await tree.run(first.snapshot, DEAR + "x = x * 2\nlen(x)")
        assert second.value == str(20 << 20)
        assert (await tree.run(second.snapshot, "len(x)")).value == str(20 << 20)
        assert sandbox.counters.replayed_steps == 3
        assert sandbox.counters.steps[Outcome.OK] == 3


async def test_a_replay_that_ends_differently_loses_what_is_below(cramped: Sandbox) -> None:
    async with cramped.tree() as tree:
        unstable = await tree.run(None, DEAR + "print(time.monotonic_ns())")
        other = await tree.run(None, DEAR + "y = 2")
        lost = await tree.run(unstable.snapshot, "1")
        assert lost.outcome is Outcome.LOST
        assert lost.error == "the state before the step could not be rebuilt: a step gave another output than before"
        assert (await tree.run(other.snapshot, "y")).value == "2"


@pytest.mark.parametrize(
    "start",
    [
        pytest.param("", id="in-the-next-step's-process"),
        pytest.param(DEAR, id="in-one-of-its-own", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize(
    ("otherwise", "reason"),
    {
        "os._exit(3)": "exited with code 3 and no report",
        "raise ValueError('other')": "ValueError: other",
        "print(1)": "a step gave another output than before",
        "os.kill(0, 9)": "PermissionError: [Errno 1] Operation not permitted",
        "x = bytearray(8 << 30)": "MemoryError",
    }.items(),
)
async def test_a_lost_state_has_the_reason_of_its_failed_replay(
    patient: Sandbox, start: str, otherwise: str, reason: str
) -> None:
    async with patient.tree() as tree:
        # In the tree's namespace of processes the first step has number 2: its replay has another.
        unstable = await tree.run(None, f"{start}import os\nif os.getpid() != 2:\n    {otherwise}")
        (pid,) = nodes_of(patient.zygote_pid)
        os.kill(pid, signal.SIGKILL)
        lost = await tree.run(unstable.snapshot, "1")
        assert lost.outcome is Outcome.LOST
        assert lost.error == f"the state before the step could not be rebuilt: {reason}"


async def test_a_dead_snapshot_is_replayed(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        first = await tree.run(None, DEAR + "x = 6")
        (pid,) = nodes_of(patient.zygote_pid)
        os.kill(pid, signal.SIGKILL)
        before = patient.counters.replayed_steps
        assert (await tree.run(first.snapshot, "x * 7")).value == "42"
        assert patient.counters.replayed_steps == before + 1


def _has_timer_fired(pid: int) -> bool:
    """Its signal waits for the stopped process to wake; one that was not stopped in time is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    return bool(int(status.partition("ShdPnd:")[2].split()[0], 16) & 1 << signal.SIGALRM - 1)


async def test_a_timer_left_behind_costs_a_replay_and_no_more(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        first = await tree.run(None, DEAR + "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.3)\nx = 6")
        assert await until(lambda: all(map(_has_timer_fired, nodes_of(patient.zygote_pid))))
        assert (await tree.run(first.snapshot, "x * 7")).value == "42"


async def test_a_hook_that_prevents_forks_loses_only_what_is_below(patient: Sandbox) -> None:
    async with patient.tree() as tree:
        sound = await tree.run(None, "x = 6")
        hostile = await tree.run(None, DEAR + "import os\nos.register_at_fork(before=lambda: os._exit(0))")
        assert (await tree.run(hostile.snapshot, "1")).outcome is Outcome.LOST
        assert (await tree.run(sound.snapshot, "x * 7")).value == "42"


async def test_a_killed_root_is_replaced_and_states_are_rebuilt(patient: Sandbox) -> None:
    before = patient.counters.resets
    async with patient.tree() as tree:
        first = await tree.run(None, "x = 6")
        (pid,) = nodes_of(patient.zygote_pid)
        os.kill(os.getpgid(pid), signal.SIGKILL)
        assert (await tree.run(first.snapshot, "x * 7")).value == "42"
        assert (await tree.run(None, "1")).value == "1"
        assert patient.counters.resets <= before + 1


@pytest.mark.parametrize("answer", [b"H", b"garbage", b"", b"x" * 1000])
async def test_a_node_that_answers_for_its_child_is_detected(patient: Sandbox, answer: bytes) -> None:
    code = f"""
import os
def speak():
    for descriptor in range(4, 64):
        try:
            os.write(descriptor, {answer!r})
        except OSError:
            pass
os.register_at_fork(before=speak)
"""
    async with patient.tree() as tree:
        sound = await tree.run(None, "x = 6")
        hostile = await tree.run(None, DEAR + code)
        assert (await tree.run(hostile.snapshot, "1")).outcome in (Outcome.LOST, Outcome.VIOLATION)
        assert (await tree.run(sound.snapshot, "x * 7")).value == "42"


@pytest.mark.slow
async def test_a_forged_report_harms_only_its_own_node() -> None:
    code = """
import os, struct
os.write(3, struct.pack("<cBdIII", b"D", 0, 0.0, 6, 0, 0) + b"forged")
while True: pass
"""
    async with Sandbox(limits=Limits(cpu_s=0.5, wall_s=60)) as sandbox, sandbox.tree() as tree:
        forged = await tree.run(None, code)
        assert (forged.outcome, forged.stdout) == (Outcome.OK, "forged")
        assert forged.snapshot is not None
        sound = await tree.run(None, "x = 6")
        below = await tree.run(forged.snapshot, "1")
        assert below.outcome is not Outcome.OK
        assert (await tree.run(sound.snapshot, "x * 7")).value == "42"


@pytest.mark.slow
async def test_memory_bombs_beside_live_snapshots_stay_below_the_cap() -> None:
    cache = CacheLimits(per_tree=100, overall=200, overall_mb=600, snapshot_mb=300)
    limits = Limits(cpu_s=20, wall_s=60, memory_mb=256)
    async with Sandbox(limits=limits, cache=cache) as sandbox, sandbox.tree() as tree:
        kept = [await tree.run(None, "x = 6") for _ in range(20)]
        bombs = [await tree.run(None, f"x = bytearray(b'{n}') * (100 << 20)") for n in range(8)]
        assert {bomb.outcome for bomb in bombs} == {Outcome.OK}
        assert sandbox.status.live_bytes <= 600 << 20
        refused = await tree.run(None, "x = bytearray(b'1') * (400 << 20)")
        assert refused.outcome is Outcome.MEMORY
        assert (await tree.run(kept[0].snapshot, "x * 7")).value == "42"


@pytest.mark.slow
async def test_many_snapshots_make_room_for_big_running_steps() -> None:
    cache = CacheLimits(overall=200, overall_mb=800, snapshot_mb=200)
    limits = Limits(cpu_s=60, wall_s=300, memory_mb=256)
    async with Sandbox(limits=limits, cache=cache) as sandbox:
        trees = [sandbox.tree(seed=number) for number in range(10)]
        firsts = [await tree.run(None, f"x = {number}") for number, tree in enumerate(trees)]
        for tree, first in zip(trees, firsts, strict=True):
            for number in range(20):
                assert (await tree.run(first.snapshot, f"y = {number}")).outcome is Outcome.OK
        assert sandbox.status.live_snapshots == 200
        assert await until(lambda: len(nodes_of(sandbox.zygote_pid)) <= sandbox.status.live_snapshots)
        assert len(nodes_of(sandbox.zygote_pid)) == 200
        most: list[int] = []

        async def bomb(number: int) -> StepResult:
            result = await trees[0].run(firsts[0].snapshot, f"z = bytearray(b'{number}') * (100 << 20)")
            assert sandbox.status.live_bytes <= cache.overall_mb << 20
            most.append(sandbox.status.live_snapshots)
            return result

        async with asyncio.TaskGroup() as group:
            bombs = [group.create_task(bomb(number)) for number in range(10)]
        assert {bomb.result().outcome for bomb in bombs} == {Outcome.OK}
        assert max(most) <= 200
        assert await until(lambda: len(nodes_of(sandbox.zygote_pid)) <= sandbox.status.live_snapshots)
        # A hundred megabytes hold as much as a good many of the others: some of either kind went.
        assert 10 < sandbox.status.live_snapshots <= 200
        values = [(await tree.run(first.snapshot, "x")).value for tree, first in zip(trees, firsts, strict=True)]
        assert values == [str(number) for number in range(10)]
