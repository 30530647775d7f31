"""The server that `benchmarks.steps.death` kills: a sandbox with live snapshots and running steps. Prints all its pids.

python -m benchmarks.steps.killed_server TREES SNAPSHOTS_PER_TREE
"""

import asyncio
import sys

from benchmarks.steps.processes import members
from sandbox import Limits, Sandbox

RUNNING = ("while True: pass", "import time; time.sleep(600)")


async def main(trees_wanted: int, snapshots: int) -> None:
    """Run until it is killed, or until its steps have used up their time."""
    async with Sandbox(limits=Limits(cpu_s=600, wall_s=600), workers=2) as sandbox:
        trees = [sandbox.tree(seed=number) for number in range(trees_wanted)]
        for tree in trees:
            parent = None
            for number in range(snapshots):
                parent = (await tree.run(parent, f"x = {number}")).snapshot
        before = {process.pid for process in members(sandbox.zygote_pid)}
        async with asyncio.TaskGroup() as group:
            for code in RUNNING:
                group.create_task(trees[0].run(None, code))
            while len({process.pid for process in members(sandbox.zygote_pid)} - before) < len(RUNNING):  # noqa: ASYNC110
                await asyncio.sleep(0.01)  # the kernel sends no event
            print(*(process.pid for process in members(sandbox.zygote_pid)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
