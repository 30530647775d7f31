"""The invariants of a tree: breaking any of them is noticed."""

from collections.abc import Callable

import pytest

from search import Budget, SearchConfig, Tree
from search import search as run_search
from search.outcomes import NodeOutcome
from search.testing.fakes import SteppingClock, arithmetic_parts
from search.testing.invariants import BrokenTree, check_invariants


async def grown() -> Tree:
    result = await run_search(
        "3+4+5",
        parts=arithmetic_parts(),
        config=SearchConfig(candidates=4),
        budget=Budget(trajectories=6),
        seed=2,
        now=SteppingClock(),
    )
    return result.tree


async def test_a_searched_tree_keeps_them() -> None:
    check_invariants(await grown())


def lose_a_visit(tree: Tree) -> None:
    tree.root.visits -= 1


def end_at_an_open_node(tree: Tree) -> None:
    first = tree[tree.root.children[0]]
    tree.root.visits += 1
    first.visits += 1


def keep_a_virtual_loss(tree: Tree) -> None:
    tree.root.value_sum -= 1.0


def leave_the_range(tree: Tree) -> None:
    node = next(node for node in tree.nodes if node.prior_visits and not node.trajectories)
    node.score = node.value_sum = 1.5


def call_a_parent_childless(tree: Tree) -> None:
    node = next(node for node in tree.nodes if any(not child.is_dead for child in tree.children(node)))
    node.outcome = NodeOutcome.CHILDLESS


def give_failed_code_a_prior(tree: Tree) -> None:
    node = next(node for node in tree.nodes if node.outcome is NodeOutcome.CODE_FAILED)
    node.visits = node.prior_visits = 1


def number_twice(tree: Tree) -> None:
    last = next(node for node in tree.nodes if node.ends_trajectory == tree.trajectories - 1)
    last.ends_trajectory = 0


@pytest.mark.parametrize(
    "damage",
    [
        lose_a_visit,
        end_at_an_open_node,
        keep_a_virtual_loss,
        leave_the_range,
        call_a_parent_childless,
        give_failed_code_a_prior,
        number_twice,
    ],
)
async def test_a_broken_tree_is_noticed(damage: Callable[[Tree], None]) -> None:
    tree = await grown()
    damage(tree)
    with pytest.raises(BrokenTree, match=r"node \d+"):
        check_invariants(tree)
