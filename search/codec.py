"""The codec: a tree as a JSON-able dict and back, exactly: `load(save(tree)) == tree`.

The dict also survives `json.dumps` and `json.loads`, floats included. A tree loaded and continued equals one that was
never stopped: nothing of a search lives outside its tree but interpreter snapshots, which are made again when needed.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar, cast

from search.errors import TreeFormatError
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Execution, PathStep
from search.tree import ROOT, Node, NodeId, Tree

VERSION = 1
"""Raised whenever older readers would misread the dict."""

Read = TypeVar("Read")
Member = TypeVar("Member", bound=StrEnum)


def save(tree: Tree) -> dict[str, object]:
    """The whole tree, made of dicts, lists, strings, numbers, booleans and None."""
    return {"version": VERSION, "problem": tree.problem, "nodes": [_save_node(node) for node in tree.nodes]}


def load(saved: Mapping[str, object]) -> Tree:
    """The tree that was saved. Raises `TreeFormatError` where `saved` is of another version or damaged."""
    version = saved.get("version")
    if version != VERSION:
        raise TreeFormatError(f"saved tree has version {version!r}; this search reads version {VERSION}")
    try:
        nodes = [_load_node(_mapping(record)) for record in _list(saved["nodes"])]
        tree = Tree(_text(saved["problem"]), nodes)
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
        "execution": None if node.execution is None else _save_execution(node.execution),
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
        "children": list(node.children),
    }


def _load_node(record: Mapping[str, object]) -> Node:
    parent = _optional(record["parent"], _integer)
    return Node(
        id=NodeId(_integer(record["id"])),
        parent=None if parent is None else NodeId(parent),
        depth=_integer(record["depth"]),
        step=_optional(record["step"], _load_step),
        outcome=_member(record["outcome"], NodeOutcome),
        execution=_optional(record["execution"], _load_execution),
        answer=_optional(record["answer"], _text),
        score=_optional(record["score"], _number),
        terminal_value=_optional(record["terminal_value"], _number),
        logprob=_number(record["logprob"]),
        multiplicity=_integer(record["multiplicity"]),
        tokens=_integer(record["tokens"]),
        prior_visits=_integer(record["prior_visits"]),
        visits=_integer(record["visits"]),
        value_sum=_number(record["value_sum"]),
        is_finished=_boolean(record["is_finished"]),
        children=[NodeId(_integer(child)) for child in _list(record["children"])],
    )


def _save_step(step: PathStep) -> dict[str, object]:
    return {"text": step.text, "token_ids": list(step.token_ids), "stop": step.stop.value, "output": step.output}


def _load_step(value: object) -> PathStep:
    record = _mapping(value)
    return PathStep(
        text=_text(record["text"]),
        token_ids=tuple(_integer(token) for token in _list(record["token_ids"])),
        stop=_member(record["stop"], CandidateStop),
        output=_optional(record["output"], _text),
    )


def _save_execution(execution: Execution) -> dict[str, object]:
    return {
        "outcome": execution.outcome.value,
        "stdout": execution.stdout,
        "value": execution.value,
        "error": execution.error,
        "cpu_seconds": execution.cpu_seconds,
    }


def _load_execution(value: object) -> Execution:
    record = _mapping(value)
    return Execution(
        outcome=_member(record["outcome"], ExecutionOutcome),
        stdout=_text(record["stdout"]),
        value=_optional(record["value"], _text),
        error=_optional(record["error"], _text),
        cpu_seconds=_number(record["cpu_seconds"]),
    )


def _optional(value: object, read: Callable[[object], Read]) -> Read | None:
    return None if value is None else read(value)


def _member(value: object, kind: type[Member]) -> Member:
    return kind(_text(value))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"expected a string, found {value!r}")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, found {value!r}")


def _integer(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected an integer, found {value!r}")


def _number(value: object) -> float:
    # JSON written elsewhere may have turned 1.0 into 1.
    return value if isinstance(value, float) else float(_integer(value))


def _list(value: object) -> list[object]:
    if isinstance(value, list):
        return cast("list[object]", value)
    raise ValueError(f"expected a list, found {value!r}")


def _mapping(value: object) -> Mapping[str, object]:
    if isinstance(value, dict):
        return cast("Mapping[str, object]", value)
    raise ValueError(f"expected an object, found {value!r}")
