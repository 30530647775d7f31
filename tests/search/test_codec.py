"""The codec: exact there and back, and refusals that say why."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.codec import load, save
from search.errors import TreeFormatError
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Execution, PathStep
from search.tree import Node, NodeId, Tree

texts = st.text(max_size=8)
scores = st.none() | st.floats(-1, 1)
executions = st.builds(
    Execution,
    outcome=st.sampled_from(ExecutionOutcome),
    stdout=texts,
    value=st.none() | texts,
    error=st.none() | texts,
    cpu_seconds=st.floats(0, 100),
)
path_steps = st.builds(
    PathStep,
    text=texts,
    token_ids=st.lists(st.integers(0, 10**6), max_size=3).map(tuple),
    stop=st.sampled_from(CandidateStop),
    output=st.none() | texts,
)


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    tree = Tree(draw(texts))
    for _ in range(draw(st.integers(0, 6))):
        parent = NodeId(draw(st.integers(0, len(tree.nodes) - 1)))
        node = Node(
            id=tree.next_id,
            parent=parent,
            depth=tree[parent].depth + 1,
            step=draw(path_steps),
            outcome=draw(st.sampled_from(NodeOutcome)),
            execution=draw(st.none() | executions),
            answer=draw(st.none() | texts),
            score=draw(scores),
            terminal_value=draw(scores),
            logprob=draw(st.floats(-1e3, 0)),
            multiplicity=draw(st.integers(1, 32)),
            tokens=draw(st.integers(0, 10**6)),
        )
        tree.add(node)
        node.prior_visits = draw(st.integers(0, 1))
        node.visits = draw(st.integers(1, 100))
        node.value_sum = draw(st.floats(-100, 100))
        node.is_finished = draw(st.booleans())
        node.ends_trajectory = draw(st.none() | st.integers(0, 100))
    tree.applied = draw(st.integers(0, 100))
    return tree


@given(trees())
def test_a_tree_comes_back_as_it_was(tree: Tree) -> None:
    assert load(save(tree)) == tree


@given(trees())
def test_a_tree_comes_back_through_json_as_it_was(tree: Tree) -> None:
    assert load(json.loads(json.dumps(save(tree)))) == tree


def small() -> dict[str, Any]:
    tree = Tree("p")
    step = PathStep(text="a", token_ids=(1,), stop=CandidateStop.END_OF_STEP)
    for parent in (0, 1):
        tree.add(Node(id=tree.next_id, parent=NodeId(parent), depth=parent + 1, step=step))
    return json.loads(json.dumps(save(tree)))


def test_saving_keeps_nothing_of_the_tree_alive() -> None:
    tree = load(small())
    saved = save(tree)
    tree.root.visits = 9
    assert load(saved).root.visits == 0


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_version_is_refused(version: object) -> None:
    with pytest.raises(TreeFormatError, match="reads version 1"):
        load({**small(), "version": version})


def test_a_tree_saved_before_results_were_numbered_can_be_read() -> None:
    saved = small()
    del saved["applied"]
    for node in saved["nodes"]:
        del node["ends_trajectory"]
    assert load(saved) == load(small())


def test_tokens_of_a_loaded_tree_are_counted_again() -> None:
    saved = small()
    saved["nodes"][1]["tokens"] = 7
    assert load(saved).tokens == 7


Damage = Callable[[dict[str, Any]], object]


def of_tree(field: str, value: object) -> Damage:
    return lambda saved: saved.update({field: value})


def of_node(index: int, field: str, value: object) -> Damage:
    return lambda saved: saved["nodes"][index].update({field: value})


def without(index: int, field: str) -> Damage:
    return lambda saved: saved["nodes"][index].pop(field)


@pytest.mark.parametrize(
    "damage",
    [
        of_tree("nodes", []),
        of_tree("nodes", "none"),
        of_tree("nodes", [7]),
        of_tree("problem", 7),
        of_tree("applied", "many"),
        of_node(1, "ends_trajectory", "last"),
        without(1, "visits"),
        without(2, "step"),
        of_node(0, "parent", 1),
        of_node(1, "id", 7),
        of_node(1, "outcome", "wonderful"),
        of_node(1, "visits", "many"),
        of_node(1, "visits", True),
        of_node(1, "score", "high"),
        of_node(1, "is_finished", 1),
        of_node(1, "step", None),
        of_node(1, "step", []),
        of_node(1, "parent", 2),
        of_node(1, "parent", -1),
        of_node(2, "depth", 7),
        of_node(1, "children", []),
        of_node(2, "children", [1]),
    ],
)
def test_a_damaged_tree_is_refused(damage: Damage) -> None:
    saved = small()
    damage(saved)
    with pytest.raises(TreeFormatError, match="damaged"):
        load(saved)


def test_whole_numbers_are_read_where_json_dropped_the_point() -> None:
    saved = small()
    saved["nodes"][1]["value_sum"] = 1
    assert load(saved).nodes[1].value_sum == 1.0
