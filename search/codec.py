"""The codec: a tree as a JSON-able dict and back, exactly: `load(save(tree)) == tree`.

The dict also survives `json.dumps` and `json.loads`, floats included. A tree loaded and continued equals one that was
never stopped: nothing of a search lives outside its tree but interpreter snapshots, which are made again when needed.
"""

from collections.abc import Mapping

from search import reading
from search.errors import TreeFormatError
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Execution, PathStep
from search.tree import ROOT, Node, NodeId, Tree

VERSION = 1
"""Raised whenever older readers would misread the dict. Fields that they may pass over are added without: `applied` and
`ends_trajectory` are absent from trees saved before these were counted."""


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
        nodes = [_load_node(reading.mapping(record)) for record in reading.items(saved["nodes"])]
        tree = Tree(reading.text(saved["problem"]), nodes, applied=reading.integer(saved.get("applied", 0)))
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
    parent = reading.optional(record["parent"], reading.integer)
    return Node(
        id=NodeId(reading.integer(record["id"])),
        parent=None if parent is None else NodeId(parent),
        depth=reading.integer(record["depth"]),
        step=reading.optional(record["step"], _load_step),
        outcome=reading.member(record["outcome"], NodeOutcome),
        execution=reading.optional(record["execution"], load_execution),
        answer=reading.optional(record["answer"], reading.text),
        score=reading.optional(record["score"], reading.number),
        terminal_value=reading.optional(record["terminal_value"], reading.number),
        logprob=reading.number(record["logprob"]),
        multiplicity=reading.integer(record["multiplicity"]),
        tokens=reading.integer(record["tokens"]),
        prior_visits=reading.integer(record["prior_visits"]),
        visits=reading.integer(record["visits"]),
        value_sum=reading.number(record["value_sum"]),
        is_finished=reading.boolean(record["is_finished"]),
        ends_trajectory=reading.optional(record.get("ends_trajectory"), reading.integer),
        children=[NodeId(reading.integer(child)) for child in reading.items(record["children"])],
    )


def _save_step(step: PathStep) -> dict[str, object]:
    return {"text": step.text, "token_ids": list(step.token_ids), "stop": step.stop.value, "output": step.output}


def _load_step(value: object) -> PathStep:
    record = reading.mapping(value)
    return PathStep(
        text=reading.text(record["text"]),
        token_ids=tuple(reading.integer(token) for token in reading.items(record["token_ids"])),
        stop=reading.member(record["stop"], CandidateStop),
        output=reading.optional(record["output"], reading.text),
    )


def save_execution(execution: Execution) -> dict[str, object]:
    """What a step did, without its snapshot."""
    return {
        "outcome": execution.outcome.value,
        "stdout": execution.stdout,
        "value": execution.value,
        "error": execution.error,
        "cpu_seconds": execution.cpu_seconds,
    }


def load_execution(value: object) -> Execution:
    """The execution that was saved. Raises KeyError or ValueError where it is damaged."""
    record = reading.mapping(value)
    return Execution(
        outcome=reading.member(record["outcome"], ExecutionOutcome),
        stdout=reading.text(record["stdout"]),
        value=reading.optional(record["value"], reading.text),
        error=reading.optional(record["error"], reading.text),
        cpu_seconds=reading.number(record["cpu_seconds"]),
    )
