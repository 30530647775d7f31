"""Free parts: fakes that answer at once, so that the rest is our own Python; and the time of the fakes themselves."""

from search import Parts, Path, SearchResult, Snapshot
from search.testing.fakes import ArithmeticPolicy, ArithmeticRunner, FunctionScorer, StringEquality

PROBLEM = "+".join(str(number) for number in range(11, 20))


def free_parts() -> Parts:
    """Parts for one search."""
    return Parts(
        policy=ArithmeticPolicy(0.6),
        runner=ArithmeticRunner(),
        equality=StringEquality(),
        scorer=FunctionScorer(_indifferent),
    )


def _indifferent(path: Path) -> float:
    return 0.1


async def ask_again(result: SearchResult, *, candidates: int, seed: int) -> None:
    """Repeat the calls that made the tree, without the search. The time of making paths counts as time of the parts."""
    parts, tree = free_parts(), result.tree
    states: dict[int, Snapshot | None] = {0: None}
    for node in tree.nodes:
        if node.children:
            path = tree.path(node.id)
            await parts.policy.propose(path, candidates, seed=seed)
            assert parts.scorer is not None
            await parts.scorer.score([path] * len(node.children))
        if node.execution is not None and node.step is not None and node.parent is not None:
            states[node.id] = (await parts.runner.run(states[node.parent], node.step.text)).snapshot
