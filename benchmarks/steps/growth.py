"""Growth: grows trees as a search does. Counts how often the parent of a step is still alive, and measures the cost."""

import random
from dataclasses import dataclass, field
from math import inf, log, sqrt

from benchmarks.steps.chains import DEPTH
from sandbox import Outcome, Sandbox, SnapshotId, Tree

CHILDREN = 4

TRIVIAL = "x = sum(range(100))"
DEAR = "import time\nend = time.thread_time() + 0.005\nwhile time.thread_time() < end: pass"
"""So expensive that an evicted parent is made again for all its children."""


@dataclass(slots=True, kw_only=True)
class _Node:
    depth: int
    snapshot: SnapshotId | None
    children: list["_Node"] = field(default_factory=list["_Node"])
    visits: int = 0
    value: float = 0.0
    is_final: bool = False


async def grow(sandbox: Sandbox, step: str, *, rollouts: int, seed: int) -> int:
    """Monte Carlo tree search with random values; returns the number of steps.

    A rollout follows the greatest UCT, expands the node it ends at, and goes on from child to child to the greatest
    depth; one path in ten ends earlier at each step, as with an answer.
    """
    rng = random.Random(seed)
    steps = 0
    async with sandbox.tree(seed=seed) as tree:
        root = _Node(depth=0, snapshot=None)
        for _ in range(rollouts):
            path = [root]
            while not path[-1].is_final:
                if not path[-1].children:
                    await _expand(tree, step, path[-1], rng)
                    steps += CHILDREN
                path.append(_best(path[-1], rng))
            value = rng.uniform(-1, 1)
            for node in path:
                node.visits += 1
                node.value += value
    return steps


async def _expand(tree: Tree, step: str, node: _Node, rng: random.Random) -> None:
    for number in range(CHILDREN):
        # Siblings must differ, as a policy's candidates do; equal ones would share results.
        result = await tree.run(node.snapshot, f"{step}\ncandidate = {number}")
        assert result.outcome is Outcome.OK, result
        child = _Node(depth=node.depth + 1, snapshot=result.snapshot)
        child.is_final = child.depth == DEPTH or rng.random() < 0.1
        node.children.append(child)


def _best(node: _Node, rng: random.Random) -> _Node:
    def uct(child: _Node) -> tuple[float, float]:
        if child.visits == 0:
            return inf, rng.random()
        return child.value / child.visits + sqrt(2 * log(node.visits) / child.visits), rng.random()

    return max(node.children, key=uct)
