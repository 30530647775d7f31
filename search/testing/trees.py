"""Trees made by hand, as a search with a judge leaves them: steps that ran, answers, and trajectories backed up.

Steps get their visits and values from the trajectories alone, by the search's own backup. For tests of everything that
reads trees.
"""

from collections.abc import Sequence

from search.format import ANSWER
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import Execution, PathStep
from search.tree import ROOT, Node, NodeId, Tree, backup, give_prior


def add_step(
    tree: Tree,
    parent: NodeId,
    text: str,
    *,
    output: str | None = None,
    prior: float | None = None,
    outcome: ExecutionOutcome = ExecutionOutcome.OK,
) -> NodeId:
    """The code step with this text below `parent`, added where it is missing; one with an output ends the code."""
    for child in tree.children(tree[parent]):
        if child.step is not None and child.step.text == text:
            return child.id
    stop = CandidateStop.END_OF_STEP if output is None else CandidateStop.END_OF_CODE
    ran = outcome is ExecutionOutcome.OK
    node = _node(tree, parent, PathStep(text=text, token_ids=(1, 2), stop=stop, output=output))
    node.outcome = NodeOutcome.OPEN if ran else NodeOutcome.CODE_FAILED
    node.execution = Execution(outcome=outcome, stdout=output or "")
    if prior is not None:
        node.score = prior
        give_prior(node, prior)
    tree.add(node)
    return node.id


def add_answer(tree: Tree, parent: NodeId, answer: str, *, is_right: bool) -> NodeId:
    """An answer below `parent` that no trajectory has reached yet."""
    text = f"\n{ANSWER}The answer is \\boxed{{{answer}}}."
    node = _node(tree, parent, PathStep(text=text, token_ids=(3,), stop=CandidateStop.END_OF_ANSWER))
    node.outcome, node.answer, node.terminal_value = NodeOutcome.ANSWERED, answer, 1.0 if is_right else -1.0
    tree.add(node)
    return node.id


def add_trajectory(tree: Tree, texts: Sequence[str], answer: str, *, is_right: bool) -> NodeId:
    """A trajectory of steps with these texts, the last of which prints the answer; the answer's node."""
    step = ROOT
    for text in texts[:-1]:
        step = add_step(tree, step, text)
    step = add_step(tree, step, texts[-1], output=answer)
    end = add_answer(tree, step, answer, is_right=is_right)
    end_trajectory(tree, end)
    return end


def end_trajectory(tree: Tree, node_id: NodeId) -> None:
    """Back up a trajectory that ended at the node."""
    backup(tree, node_id)
    tree.settle(node_id)


def _node(tree: Tree, parent: NodeId, step: PathStep) -> Node:
    return Node(id=tree.next_id, parent=parent, depth=tree[parent].depth + 1, step=step)
