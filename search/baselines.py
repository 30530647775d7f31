"""The baselines: trajectories made step by step from one candidate each, with no tree to choose in.

They share interface, budget and tree with MCTS, which has to earn its keep against them at equal tokens. Each
trajectory is made in a tree of its own and grafted below the common root when finished, in the order of drawing, so
that the tree does not depend on which of those in flight comes first.
"""

import asyncio
from collections import deque
from typing import NamedTuple

from search.backup import backup
from search.concurrency import task_group
from search.outcomes import NodeOutcome, StopReason
from search.run import Run
from search.tree import ROOT, NodeId, Tree

TRAJECTORIES_IN_FLIGHT = 8
"""Several, to give the engine a batch; few, because a token budget wastes what they generate. Those begun before the
budget was known to be spent are thrown away, so that the tree overshoots its tokens by less than one trajectory."""


class _Drawn(NamedTuple):
    branch: Tree
    end: NodeId


async def greedy(run: Run) -> StopReason:
    """One trajectory: a policy that decides greedily would only repeat it."""
    if (reason := run.stop_reason()) is not None:
        return reason
    if run.tree.trajectories == 0:  # else the one trajectory is there
        await _take(run, await _draw(run, 0))
    return run.stop_reason() or StopReason.EXHAUSTED


async def majority(run: Run) -> StopReason:
    """Independent trajectories, several at once, until the budget is spent."""
    in_flight: deque[asyncio.Task[_Drawn]] = deque()
    async with task_group() as group:
        while (reason := run.stop_reason()) is None:
            if run.tree.root.is_dead:
                reason = StopReason.EXHAUSTED
                break
            while len(in_flight) < _width(run):
                draw = run.tree.trajectories + len(in_flight)
                in_flight.append(group.create_task(_draw(run, draw)))
            await _take(run, await in_flight.popleft())
        for task in in_flight:
            task.cancel()
    return reason


def _width(run: Run) -> int:
    left = run.budget.trajectories_left(run.tree.trajectories)
    return TRAJECTORIES_IN_FLIGHT if left is None else min(TRAJECTORIES_IN_FLIGHT, left)


async def _draw(run: Run, draw: int) -> _Drawn:
    """Make the trajectory with number `draw`."""
    branch = Tree(run.tree.problem)
    expander = run.expander(branch)
    node = branch.root
    while node.outcome is NodeOutcome.OPEN:
        children = await expander.expand(node.id, n=1, draw=draw)
        if not children:
            break
        node = branch[children[0]]
    return _Drawn(branch, node.id)


async def _take(run: Run, drawn: _Drawn) -> None:
    """Make a finished trajectory part of the run."""
    offset = len(run.tree.nodes) - 1
    added = run.tree.graft(drawn.branch)
    end = NodeId(drawn.end + offset) if added else ROOT
    if not added:
        # Not even a first step fits behind the problem: drawing again would change nothing.
        run.tree.close(ROOT, drawn.branch.root.outcome)
    backup(run.tree, end)
    run.report_added(added)
    await run.report_trajectory(end)
