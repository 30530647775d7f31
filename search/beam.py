"""Step beam: of all candidates of a level the best-scored go on, level by level. A baseline guided by the PPM.

One **round** follows `beam_width` paths from the root, in a tree of its own:

    expand every path of the beam, all at once -> rank all live children of the level by score -> keep the best

A path that states an answer, or whose candidates all fail, is a finished trajectory and gives up its place, so that a
round makes as many trajectories as it is wide, or fewer where candidates are few. Rounds go on with other seeds until
the budget is spent. Within a round a level waits for its slowest path, since the ranking needs them all; so there are
several rounds in flight. They are taken in the order of beginning, and surplus ones thrown away, as with the other
baselines: the tree overshoots its tokens by less than one round, its trajectories not at all.
"""

from collections import deque
from functools import partial
from typing import NamedTuple

from search.baselines import Branch, graft
from search.concurrency import run_all
from search.expansion import Expander, closed_by
from search.operations import Operations
from search.outcomes import NodeOutcome, StopReason
from search.proposal import Proposal, propose
from search.run import Run
from search.tree import ROOT, Node, NodeId, Tree

ROUNDS_IN_FLIGHT = 2
"""While one waits for the slowest path of its level, the other keeps the engine busy."""


class _Round(NamedTuple):
    name: str
    width: int


async def step_beam(run: Run, calls: Operations) -> StopReason:
    """Make rounds until the budget is spent."""
    in_flight: deque[_Round] = deque()
    finished: list[Branch] = []
    # Rounds of an earlier search of this tree are told by the first trajectory of each.
    first = run.tree.trajectories
    while (reason := run.stop_reason()) is None:
        if run.tree.root.is_dead:
            return StopReason.EXHAUSTED
        while len(in_flight) < ROUNDS_IN_FLIGHT and (width := _width(run, in_flight)):
            name = f"round {first}"
            in_flight.append(_Round(name, width))
            calls.start(name, partial(_beam, run, name, width=width, draw=first), then=finished.append)
            first += width
        await calls.apply_next(in_flight.popleft().name)
        graft(run, finished.pop())
        await run.count_all(calls)
    return reason


def _width(run: Run, in_flight: deque[_Round]) -> int:
    """Of the next round: no wider than what the trajectories of the budget leave."""
    left = run.budget.trajectories_left(run.tree.trajectories)
    if left is None:
        return run.config.beam_width
    return min(run.config.beam_width, max(0, left - sum(one.width for one in in_flight)))


async def _beam(run: Run, name: str, *, width: int, draw: int) -> Branch:
    """One round, of at most `width` trajectories."""
    branch = Tree(run.tree.problem)
    expander = run.expander(branch)
    beam = [branch.root]
    ends: list[NodeId] = []
    while beam:
        proposals = await _proposals(run, name, expander, beam=beam, draw=draw)
        children: list[Node] = []
        for node, proposal in zip(beam, proposals, strict=True):
            added = [branch[child] for child in expander.apply(proposal)]
            children += [child for child in added if not child.is_dead]
            if node.is_dead or closed_by(proposal) is not None:
                ends.append(added[0].id if node.id == ROOT and added else node.id)
        best = sorted(children, key=lambda child: (-(child.score or 0.0), child.id))[: width - len(ends)]
        ends += [child.id for child in best if child.outcome is NodeOutcome.ANSWERED]
        beam = [child for child in best if child.outcome is NodeOutcome.OPEN]
    return Branch(branch, tuple(ends))


async def _proposals(run: Run, name: str, expander: Expander, *, beam: list[Node], draw: int) -> list[Proposal]:
    plans = [expander.plan(node.id, n=run.config.candidates, draw=draw) for node in beam]
    return await run_all(
        propose(plan, parts=run.parts_for(f"{name}/{plan.node.id}"), config=run.config) for plan in plans
    )
