"""Proposals: what the parts say about the children of one node, from the policy's candidates to scored steps.

    propose -> merge and check -> run the code, all at once -> score the survivors, in one batch -> judge

Reads nothing of the tree after its plan was made, and changes nothing: many proposals for one tree may be under way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from search.candidates import Draft, drafts_below
from search.concurrency import run_all
from search.config import SearchConfig
from search.errors import BrokenPart
from search.observation import observation
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.parts import Parts, scores_answers, scores_steps
from search.protocols import Execution, Path, PathTooLong, Snapshot, StepScorer
from search.snapshots import Route, restore
from search.tree import Node, NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything there is to know about a node in order to propose children for it."""

    node: Node
    path: Path
    n: int
    """Candidates to ask for."""
    seed: int
    route: Route
    """To the interpreter state after the node."""
    executions: Sequence[Execution]
    """Of the code steps down to the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What is to become of a node: either children, or the reason why it can have none."""

    node_id: NodeId
    drafts: Sequence[Draft] = ()
    is_too_long: bool = False
    """Whether the path leaves the policy no room."""
    lost: NodeId | None = None
    """The node, this one or one above, whose interpreter state could not be made again."""
    restored: Mapping[NodeId, Snapshot] = field(default_factory=dict[NodeId, Snapshot])
    """Snapshots made again on the way."""


async def propose(plan: Plan, *, parts: Parts, config: SearchConfig) -> Proposal:
    """Raises `BrokenPart` where a part breaks its contract, and whatever a part raises."""
    node_id = plan.node.id
    try:
        candidates = await parts.policy.propose(plan.path, plan.n, seed=plan.seed)
    except PathTooLong:
        return Proposal(node_id=node_id, is_too_long=True)
    if not candidates:
        raise BrokenPart(f"policy returned 0 of {plan.n} candidates below node {node_id}; expected at least 1")
    drafts = drafts_below(plan.node, candidates[: plan.n], max_depth=config.max_depth)
    steps = [draft for draft in drafts if draft.has_code_to_run]
    restored: Mapping[NodeId, Snapshot] = {}
    if steps:
        state = await restore(plan.route, parts.runner)
        if state.lost is not None:
            return Proposal(node_id=node_id, lost=state.lost, restored=state.made)
        restored = state.made
        executions = await run_all(parts.runner.run(state.state, draft.step.text) for draft in steps)
        for draft, execution in zip(steps, executions, strict=True):
            _record(draft, execution, before=plan.executions)
    await _score(plan.path, drafts, parts=parts, config=config)
    await _judge(drafts, parts=parts)
    return Proposal(node_id=node_id, drafts=drafts, restored=restored)


def _record(draft: Draft, execution: Execution, *, before: Sequence[Execution]) -> None:
    draft.execution = execution
    if execution.outcome is not ExecutionOutcome.OK:
        draft.outcome = NodeOutcome.CODE_FAILED
    elif draft.step.stop is CandidateStop.END_OF_CODE:
        draft.step = replace(draft.step, output=observation([*before, execution]))


async def _score(path: Path, drafts: Sequence[Draft], *, parts: Parts, config: SearchConfig) -> None:
    wanted = {NodeOutcome.OPEN: scores_steps(config), NodeOutcome.ANSWERED: scores_answers(config, parts)}
    survivors = [draft for draft in drafts if wanted.get(draft.outcome, False)]
    if not survivors or parts.scorer is None:
        return
    try:
        await _score_together(parts.scorer, path, survivors)
    except PathTooLong:
        # A program may print more than the PPM can read; its siblings are none the worse for it.
        for draft in survivors:
            try:
                await _score_together(parts.scorer, path, [draft])
            except PathTooLong:
                draft.outcome = NodeOutcome.TOO_DEEP
                draft.answer = None


async def _score_together(scorer: StepScorer, path: Path, drafts: Sequence[Draft]) -> None:
    paths = [replace(path, steps=(*path.steps, draft.step)) for draft in drafts]
    scores = await scorer.score(paths)
    if len(scores) != len(paths):
        raise BrokenPart(f"scorer returned {len(scores)} scores for {len(paths)} paths")
    for draft, score in zip(drafts, scores, strict=True):
        draft.score = _in_range(score, what="PPM score")


async def _judge(drafts: Sequence[Draft], *, parts: Parts) -> None:
    for draft in drafts:
        if draft.answer is None:
            continue
        if parts.judge is None:
            draft.terminal_value = draft.score
        else:
            draft.terminal_value = _in_range(await parts.judge.value(draft.answer), what="judge's value")


def _in_range(number: float, *, what: str) -> float:
    if not (math.isfinite(number) and -1.0 <= number <= 1.0):
        raise BrokenPart(f"{what} must lie in [-1, 1], not {number}")
    return float(number)
