"""The codec: a tree as a JSON-able dict and back, exactly: `load(save(tree)) == tree`. And readers of parsed JSON.

The dict also survives `json.dumps` and `json.loads`, floats included. A tree loaded and continued equals one that was
never stopped: the only other state of a search are interpreter snapshots, which are made again when needed.

The readers, from `optional` to `mapping`, give values the type that the caller expects. A value of another kind raises
ValueError with a message that shows it.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar, cast

from search.errors import TreeFormatError
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Execution, PathStep
from search.tree import ROOT, Node, NodeId, Tree

VERSION = 1
"""Raised whenever older readers would misread the dict, but not for fields that they may skip: `applied` and
`ends_trajectory` are absent from trees saved before these were counted."""

Read = TypeVar("Read")
Member = TypeVar("Member", bound=StrEnum)


def save(tree: Tree) -> dict[str, object]:
    """The whole tree, made of dicts, lists, strings, numbers, booleans and None."""
    nodes = [_save_node(node) for node in tree.nodes]
    return {"version": VERSION, "problem": tree.problem, "applied": tree.applied, "nodes": nodes}


def load(saved: Mapping[str, object]) -> Tree:
    """The tree that was saved. Raises `TreeFormatError` where `saved` is of another version or damaged."""
    version = saved.get("version")
    if version != VERSION:
        raise TreeFormatError(f"saved tree has version {version!r}; this search reads version {VERSION}")
    try:
        nodes = [_load_node(mapping(record)) for record in items(saved["nodes"])]
        tree = Tree(text(saved["problem"]), nodes, applied=integer(saved.get("applied", 0)))
    except (KeyError, ValueError) as error:
        raise TreeFormatError(f"saved tree is damaged: {error!r}") from error
    _check(tree)
    return tree


def _check(tree: Tree) -> None:
    """Raise unless ids, parents and children fit together, so that no walk can leave the tree or go in circles."""
    if not tree.nodes or tree.root.parent is not None or tree.root.depth != 0:
        raise TreeFormatError("saved tree is damaged: it has no root")
    children: list[list[NodeId]] = [[] for _ in tree.nodes]
    for position, node in enumerate(tree.nodes):
        if node.id != position:
            raise TreeFormatError(f"saved tree is damaged: node {node.id} stands at position {position}")
        if position == ROOT:
            continue
        if node.step is None or node.parent is None or not 0 <= node.parent < position:
            raise TreeFormatError(f"saved tree is damaged: node {position} has no step or no earlier parent")
        if node.depth != tree[node.parent].depth + 1:
            raise TreeFormatError(f"saved tree is damaged: node {position} is at depth {node.depth}")
        children[node.parent].append(node.id)
    if any(node.children != expected for node, expected in zip(tree.nodes, children, strict=True)):
        raise TreeFormatError("saved tree is damaged: parents and children disagree")


def _save_node(node: Node) -> dict[str, object]:
    return {
        "id": node.id,
        "parent": node.parent,
        "depth": node.depth,
        "step": None if node.step is None else _save_step(node.step),
        "outcome": node.outcome.value,
        "execution": None if node.execution is None else save_execution(node.execution),
        "answer": node.answer,
        "score": node.score,
        "terminal_value": node.terminal_value,
        "logprob": node.logprob,
        "multiplicity": node.multiplicity,
        "tokens": node.tokens,
        "prior_visits": node.prior_visits,
        "visits": node.visits,
        "value_sum": node.value_sum,
        "is_finished": node.is_finished,
        "ends_trajectory": node.ends_trajectory,
        "children": list(node.children),
    }


def _load_node(record: Mapping[str, object]) -> Node:
    return Node(
        id=NodeId(integer(record["id"])),
        parent=optional(record["parent"], lambda value: NodeId(integer(value))),
        depth=integer(record["depth"]),
        step=optional(record["step"], _load_step),
        outcome=member(record["outcome"], NodeOutcome),
        execution=optional(record["execution"], load_execution),
        answer=optional(record["answer"], text),
        score=optional(record["score"], number),
        terminal_value=optional(record["terminal_value"], number),
        logprob=number(record["logprob"]),
        multiplicity=integer(record["multiplicity"]),
        tokens=integer(record["tokens"]),
        prior_visits=integer(record["prior_visits"]),
        visits=integer(record["visits"]),
        value_sum=number(record["value_sum"]),
        is_finished=boolean(record["is_finished"]),
        ends_trajectory=optional(record.get("ends_trajectory"), integer),
        children=[NodeId(integer(child)) for child in items(record["children"])],
    )


def _save_step(step: PathStep) -> dict[str, object]:
    return {"text": step.text, "token_ids": list(step.token_ids), "stop": step.stop.value, "output": step.output}


def _load_step(value: object) -> PathStep:
    record = mapping(value)
    return PathStep(
        text=text(record["text"]),
        token_ids=tuple(integer(token) for token in items(record["token_ids"])),
        stop=member(record["stop"], CandidateStop),
        output=optional(record["output"], text),
    )


def save_execution(execution: Execution) -> dict[str, object]:
    """The execution of a step, without its snapshot."""
    return {
        "outcome": execution.outcome.value,
        "stdout": execution.stdout,
        "value": execution.value,
        "error": execution.error,
        "cpu_seconds": execution.cpu_seconds,
    }


def load_execution(value: object) -> Execution:
    """The execution that was saved. Raises KeyError or ValueError where it is damaged."""
    record = mapping(value)
    return Execution(
        outcome=member(record["outcome"], ExecutionOutcome),
        stdout=text(record["stdout"]),
        value=optional(record["value"], text),
        error=optional(record["error"], text),
        cpu_seconds=number(record["cpu_seconds"]),
    )


def optional(value: object, read: Callable[[object], Read]) -> Read | None:
    """None for None, else the value read by `read`."""
    return None if value is None else read(value)


def member(value: object, kind: type[Member]) -> Member:
    """A member of a closed set, by its value."""
    return kind(text(value))


def text(value: object) -> str:
    """A string."""
    if isinstance(value, str):
        return value
    raise ValueError(f"expected a string, found {value!r}")


def boolean(value: object) -> bool:
    """True or false; no number."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, found {value!r}")


def integer(value: object) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected an integer, found {value!r}")


def number(value: object) -> float:
    """A number, as a float: JSON written elsewhere may have turned 1.0 into 1."""
    return value if isinstance(value, float) else float(integer(value))


def items(value: object) -> list[object]:
    """A list."""
    if isinstance(value, list):
        return cast("list[object]", value)
    raise ValueError(f"expected a list, found {value!r}")


def mapping(value: object) -> Mapping[str, object]:
    """An object."""
    if isinstance(value, dict):
        return cast("Mapping[str, object]", value)
    raise ValueError(f"expected an object, found {value!r}")
