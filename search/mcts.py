"""Monte Carlo tree search: rollouts from the root to the end of a trajectory, one after the other.

A rollout is one walk: select a child, expand it if nobody has, go on until a node is terminal or dead (rStar-Math,
section 3.2). There is no separate playout. Each rollout makes one trajectory that was not there before, or fails
at a dead end; both count.
"""

from search.backup import backup
from search.expansion import Expander
from search.outcomes import NodeOutcome, StopReason
from search.run import Run
from search.selection import select_child
from search.tree import NodeId


async def mcts(run: Run) -> StopReason:
    """Make trajectories until the budget is spent or the tree holds nothing new."""
    expander = run.expander(run.tree)
    while (reason := run.stop_reason()) is None:
        if run.tree.root.is_finished:
            return StopReason.EXHAUSTED
        end = await _walk(run, expander)
        # No await between these two: an interrupted search leaves a tree whose visits add up.
        backup(run.tree, end)
        run.tree.settle(end)
        await run.report_trajectory(end)
    return reason


async def _walk(run: Run, expander: Expander) -> NodeId:
    """From the root to where the trajectory ends, expanding on the way."""
    node = run.tree.root
    while node.outcome is NodeOutcome.OPEN:
        if not node.children:
            run.report_added(await expander.expand(node.id, n=run.config.candidates))
        chosen = select_child(run.tree, node.id, exploration=run.config.exploration)
        if chosen is None:
            break
        node = run.tree[chosen]
    return node.id
