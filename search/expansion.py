"""Expansion: plans the calls for a node, lets the parts propose children for it, and applies the proposal.

    plan -> propose: merge and check, run the code, all at once, score the survivors, in one batch, judge -> apply

A proposal reads only its plan and does not change the tree, so many proposals for one tree may run at once. Only
`Expander.apply` changes the tree, without an await, so that a search interrupted during an expansion leaves the tree as
it was. Failed candidates are added as dead nodes with the reason: training needs them, selection skips them. A child
that states the answer does not affect its siblings.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from search.calls import run_all
from search.config import SearchConfig
from search.errors import BrokenPart
from search.format import ANSWER, SPECIAL_TOKENS, extract_boxed, observation
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.protocols import (
    Candidate,
    CodeRunner,
    Execution,
    Parts,
    Path,
    PathStep,
    PathTooLong,
    Snapshot,
    StepScorer,
    scores_answers,
    scores_steps,
)
from search.tree import ROOT, Node, NodeId, Tree, give_prior


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """How to get to the interpreter state after a node."""

    known: Snapshot | None
    """The state to begin with; None: a fresh interpreter."""
    missing: tuple[Node, ...] = ()
    """The nodes whose steps must be run again from there, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything needed to propose children for a node."""

    node: Node
    path: Path
    n: int
    """Candidates to ask for."""
    seed: int
    route: Route
    """The route to the interpreter state after the node."""
    executions: Sequence[Execution]
    """The executions of the code steps down to the node."""


@dataclass(slots=True, kw_only=True)
class Draft:
    """A candidate on its way to becoming a node; the fields are those of `Node`."""

    step: PathStep
    outcome: NodeOutcome
    answer: str | None
    logprob: float
    multiplicity: int
    tokens: int
    execution: Execution | None = None
    """The execution with its snapshot, which the node leaves out."""
    score: float | None = None
    terminal_value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """The children proposed for a node, or the reason why it can have none."""

    node_id: NodeId
    drafts: Sequence[Draft] = ()
    closes: NodeId | None = None
    """The node that can have no children, this one or one above; None where there are drafts."""
    is_lost: bool = False
    """Whether the interpreter state of `closes` could not be made again. Else its path leaves the policy no room."""
    restored: Mapping[NodeId, Snapshot] = field(default_factory=dict[NodeId, Snapshot])
    """Snapshots made again on the way."""


class Expander:
    """Expands nodes of one tree during one run, and keeps the interpreter state after each node.

    These snapshots are the only state of a search outside its tree, since they cannot be saved. A missing snapshot (the
    tree was loaded) is made again when first needed: the path's code steps are run from the last node that has one.
    Snapshots made again by one expansion are available to others once that expansion is applied, so that the steps run
    again do not depend on which expansion is faster.
    """

    def __init__(self, tree: Tree, *, config: SearchConfig, seed: int) -> None:
        self._tree = tree
        self._config = config
        self._seed = seed
        self._snapshots: dict[NodeId, Snapshot | None] = {ROOT: None}

    def plan(self, node_id: NodeId, *, n: int, draw: int = 0) -> Plan:
        """Plan at most `n` children of an open node, as the tree is now; `draw` numbers repeated requests."""
        path = self._tree.path(node_id)
        return Plan(
            node=self._tree[node_id],
            path=path,
            n=n,
            seed=request_seed(self._seed, path, draw=draw),
            route=route_to(self._tree, self._snapshots, node_id),
            executions=self._tree.executions(node_id),
        )

    def apply(self, proposal: Proposal) -> list[NodeId]:
        """Add the children and return their ids, dead ones included; empty where `proposal.closes` a node instead."""
        for node_id, snapshot in proposal.restored.items():
            self._snapshots.setdefault(node_id, snapshot)
        self._tree.applied += 1
        if proposal.closes is not None:
            self._close(proposal.closes, is_lost=proposal.is_lost)
            return []
        parent = self._tree[proposal.node_id]
        added: list[NodeId] = []
        for draft in proposal.drafts:
            node = _node(draft, id=self._tree.next_id, parent=parent)
            if draft.score is not None and scores_steps(self._config):
                give_prior(node, draft.score)
            self._tree.add(node)
            if draft.execution is not None and draft.execution.snapshot is not None:
                self._snapshots[node.id] = draft.execution.snapshot
            added.append(node.id)
        self._tree.settle(parent.id)
        return added

    def _close(self, node_id: NodeId, *, is_lost: bool) -> None:
        if is_lost:
            node = self._tree[node_id]
            assert node.execution is not None
            node.execution = replace(
                node.execution,
                outcome=ExecutionOutcome.LOST,
                error="the step ended differently when it was run again",
            )
        self._tree.close(node_id, NodeOutcome.CODE_FAILED if is_lost else NodeOutcome.TOO_DEEP)


def _node(draft: Draft, *, id: NodeId, parent: Node) -> Node:
    return Node(
        id=id,
        parent=parent.id,
        depth=parent.depth + 1,
        step=draft.step,
        outcome=draft.outcome,
        execution=None if draft.execution is None else replace(draft.execution, snapshot=None),
        answer=draft.answer,
        score=draft.score,
        terminal_value=draft.terminal_value,
        logprob=draft.logprob,
        multiplicity=draft.multiplicity,
        tokens=draft.tokens,
    )


def route_to(tree: Tree, snapshots: Mapping[NodeId, Snapshot | None], node_id: NodeId) -> Route:
    """The route from the nearest snapshot above the node, as of now."""
    node = tree[node_id]
    missing: list[Node] = []
    while node.id not in snapshots:
        missing.append(node)
        assert node.parent is not None
        node = tree[node.parent]
    return Route(known=snapshots[node.id], missing=tuple(reversed(missing)))


def request_seed(search_seed: int, path: Path, *, draw: int) -> int:
    """A seed from 0 to 2**63 - 1 for proposing the step after `path`; `draw` numbers repeated requests.

    The same in every run of the same search. It is a hash because engines give sample k of a request the seed s + k:
    requests with consecutive seeds would share samples. The top bit of the 64-bit hash is dropped, since engines take
    seeds as signed numbers.
    """
    digest = hashlib.blake2b(digest_size=8)
    texts = [str(search_seed), str(draw), path.problem]
    for step in path.steps:
        texts += step.stop, step.text
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        # The length in front keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(len(encoded).to_bytes(8, "big"))
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big") >> 1


async def propose(plan: Plan, *, parts: Parts, config: SearchConfig) -> Proposal:
    """Make a proposal. Raises `BrokenPart` if a part breaks its contract, and any exception of a part."""
    node_id = plan.node.id
    try:
        candidates = await parts.policy.propose(plan.path, plan.n, seed=plan.seed)
    except PathTooLong:
        return Proposal(node_id=node_id, closes=node_id)
    if not candidates:
        raise BrokenPart(f"policy returned 0 of {plan.n} candidates below node {node_id}; expected at least 1")
    drafts = drafts_below(plan.node, candidates[: plan.n], max_depth=config.max_depth)
    steps = [draft for draft in drafts if draft.outcome is NodeOutcome.OPEN]
    restored: Mapping[NodeId, Snapshot] = {}
    if steps:
        state = await restore(plan.route, parts.runner)
        if state.lost is not None:
            return Proposal(node_id=node_id, closes=state.lost, is_lost=True, restored=state.made)
        restored = state.made
        executions = await run_all(parts.runner.run(state.state, draft.step.text) for draft in steps)
        for draft, execution in zip(steps, executions, strict=True):
            _record(draft, execution, before=plan.executions)
    await _score(plan.path, drafts, parts=parts, config=config)
    await _judge(drafts, parts=parts)
    return Proposal(node_id=node_id, drafts=drafts, restored=restored)


def drafts_below(parent: Node, candidates: Sequence[Candidate], *, max_depth: int) -> list[Draft]:
    """One draft per distinct candidate, in order of first appearance, checked against the step format.

    A code step is non-empty text before the code has ended; an answer step is `<answer>` and prose with a boxed answer,
    after it. Neither holds a special token: the models would read it as part of the format.

    Candidates are equal if they stopped for the same reason and have the same text, or the same answer: two wordings of
    one printed result are one trajectory. The first represents all of them; the tokens of all are charged.
    """
    drafts: dict[tuple[CandidateStop, str | None, str | None], Draft] = {}
    for candidate in candidates:
        outcome = _outcome(candidate, parent=parent, max_depth=max_depth)
        answer = extract_boxed(candidate.text) if outcome is NodeOutcome.ANSWERED else None
        key = (candidate.stop, answer, candidate.text if answer is None else None)
        if key in drafts:
            drafts[key].multiplicity += 1
            drafts[key].tokens += len(candidate.token_ids)
        else:
            drafts[key] = Draft(
                step=PathStep(text=candidate.text, token_ids=tuple(candidate.token_ids), stop=candidate.stop),
                outcome=outcome,
                answer=answer,
                logprob=candidate.logprob,
                multiplicity=1,
                tokens=len(candidate.token_ids),
            )
    return list(drafts.values())


def _outcome(candidate: Candidate, *, parent: Node, max_depth: int) -> NodeOutcome:
    """The outcome of the candidate before its code has run."""
    code_has_ended = parent.step is not None and parent.step.stop is CandidateStop.END_OF_CODE
    match candidate.stop:
        case CandidateStop.LENGTH:
            return NodeOutcome.CUT_OFF
        case CandidateStop.END_OF_STEP | CandidateStop.END_OF_CODE:
            if code_has_ended or not _is_well_formed(candidate.text):
                return NodeOutcome.CUT_OFF
            # A code step on the last level can have no answer below it: not worth running.
            return NodeOutcome.OPEN if parent.depth + 1 < max_depth else NodeOutcome.TOO_DEEP
        case CandidateStop.END_OF_ANSWER:
            if not code_has_ended or not _is_well_formed(candidate.text.lstrip().removeprefix(ANSWER)):
                return NodeOutcome.CUT_OFF
            return NodeOutcome.ANSWERED if extract_boxed(candidate.text) else NodeOutcome.NO_ANSWER
        case _:
            assert_never(candidate.stop)


def _is_well_formed(text: str) -> bool:
    return bool(text.strip()) and not any(token in text for token in SPECIAL_TOKENS)


@dataclass(slots=True, kw_only=True)
class Restored:
    """The result of following a route."""

    state: Snapshot | None
    """The state at its end, unless it was lost."""
    made: dict[NodeId, Snapshot] = field(default_factory=dict[NodeId, Snapshot])
    """Snapshots made again on the way."""
    lost: NodeId | None = None
    """The node whose step ended differently when it was run again."""


async def restore(route: Route, runner: CodeRunner) -> Restored:
    """The state at the end of `route`."""
    restored = Restored(state=route.known)
    for node in route.missing:
        assert node.step is not None
        assert node.execution is not None
        again, before = await runner.run(restored.state, node.step.text), node.execution
        ended_alike = (again.outcome, again.stdout, again.value) == (before.outcome, before.stdout, before.value)
        if again.snapshot is None or not ended_alike:
            restored.lost = node.id
            return restored
        restored.state = restored.made[node.id] = again.snapshot
    return restored


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
        # A program may print more than the PPM can read: only the candidates that are too long are closed for it.
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
