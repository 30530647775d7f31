"""The baselines: trajectories made step by step from one candidate each, with no tree to choose in.

They share interface, budget and tree with MCTS, which has to earn its keep against them at equal tokens. Each
trajectory is made in a tree of its own and grafted below the common root when finished, in the order of drawing, so
that the tree does not depend on which of those in flight comes first.
"""

from functools import partial
from typing import NamedTuple

from search.operations import Operations
from search.outcomes import NodeOutcome, StopReason
from search.parts import Parts
from search.run import Run
from search.tree import ROOT, NodeId, Tree

TRAJECTORIES_IN_FLIGHT = 8
"""Several, to give the engine a batch; few, because a token budget wastes what they generate. Those begun before the
budget was known to be spent are thrown away, so that the tree overshoots its tokens by less than one trajectory."""


class Branch(NamedTuple):
    """Trajectories in a tree of their own."""

    tree: Tree
    ends: tuple[NodeId, ...]
    """Where they ended."""


async def greedy(run: Run, calls: Operations) -> StopReason:
    """One trajectory: a policy that decides greedily would only repeat it."""
    if (reason := run.stop_reason()) is not None:
        return reason
    if run.tree.trajectories == 0:  # else the one trajectory is there
        await _Draws(run, calls, at_once=1).take_one()
    return run.stop_reason() or StopReason.EXHAUSTED


async def independent(run: Run, calls: Operations) -> StopReason:
    """Independent trajectories, several at once, until the budget is spent: majority and best of n."""
    draws = _Draws(run, calls, at_once=TRAJECTORIES_IN_FLIGHT)
    while (reason := run.stop_reason()) is None:
        if run.tree.root.is_dead:
            return StopReason.EXHAUSTED
        await draws.take_one()
    return reason


class _Draws:
    """Trajectories in flight, numbered by the order in which they are taken."""

    def __init__(self, run: Run, calls: Operations, *, at_once: int) -> None:
        self._run = run
        self._calls = calls
        self._at_once = at_once
        self._begun = run.tree.trajectories
        self._finished: list[Branch] = []

    async def take_one(self) -> None:
        """Make the next trajectory part of the tree, with others in flight behind it."""
        taken = self._run.tree.trajectories
        while self._begun < taken + self._width(taken):
            name = f"draw {self._begun}"
            drawing = partial(_draw, self._run, self._begun, parts=self._run.parts_for(name))
            self._calls.start(name, drawing, then=self._finished.append)
            self._begun += 1
        await self._calls.apply_next(f"draw {taken}")
        graft(self._run, self._finished.pop())
        await self._run.count_all(self._calls)

    def _width(self, taken: int) -> int:
        left = self._run.budget.trajectories_left(taken)
        return self._at_once if left is None else min(self._at_once, left)


async def _draw(run: Run, draw: int, *, parts: Parts) -> Branch:
    """Make the trajectory with number `draw`."""
    branch = Tree(run.tree.problem)
    expander = run.expander(branch)
    node = branch.root
    while node.outcome is NodeOutcome.OPEN:
        children = await expander.expand(node.id, parts=parts, n=1, draw=draw)
        if not children:
            break
        node = branch[children[0]]
    return Branch(branch, (node.id,))


def graft(run: Run, branch: Branch) -> None:
    """Make finished trajectories part of the run."""
    offset = len(run.tree.nodes) - 1
    added = run.tree.graft(branch.tree)
    if not added:
        # Not even a first step fits behind the problem: drawing again would change nothing.
        run.tree.close(ROOT, branch.tree.root.outcome)
    run.report_added(added)
    for end in branch.ends:
        run.finish_trajectory(NodeId(end + offset) if added else ROOT)
