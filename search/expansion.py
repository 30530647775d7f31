"""Expansion: adds the children of one node, from proposal to scored step.

    propose -> merge and check -> run the code, all at once -> score the survivors, in one batch -> judge -> add

Candidates that fail are added too, dead, with the reason: training wants them, selection passes them over. One that
states the answer leaves its siblings alone. The tree changes only after the last await, so that a search interrupted
here leaves it as it was.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from search.backup import give_prior
from search.candidates import Draft, drafts_below
from search.concurrency import run_all
from search.config import SearchConfig
from search.errors import BrokenPart
from search.observation import observation
from search.outcomes import CandidateStop, ExecutionOutcome, NodeOutcome
from search.parts import Parts, scores_answers, scores_steps
from search.protocols import Path, PathTooLong, StepScorer
from search.seeds import request_seed
from search.snapshots import Snapshots, StateLost, lost
from search.tree import Node, NodeId, Tree


class Expander:
    """Expands nodes of one tree during one run."""

    def __init__(self, tree: Tree, *, parts: Parts, config: SearchConfig, seed: int) -> None:
        self._tree = tree
        self._parts = parts
        self._config = config
        self._seed = seed
        self._snapshots = Snapshots(tree, parts.runner)

    async def expand(self, node_id: NodeId, *, n: int, draw: int = 0) -> list[NodeId]:
        """Add the children of an open node, at most `n`; their ids, dead ones included.

        Empty where the node itself could not go on: its path is too long for the policy, or the interpreter state
        could not be made again. The tree then says so.
        """
        path = self._tree.path(node_id)
        seed = request_seed(self._seed, path, draw=draw)
        try:
            candidates = await self._parts.policy.propose(path, n, seed=seed)
        except PathTooLong:
            self._tree.close(node_id, NodeOutcome.TOO_DEEP)
            return []
        if not candidates:
            raise BrokenPart(f"policy returned 0 of {n} candidates below node {node_id}; expected at least 1")
        drafts = drafts_below(self._tree[node_id], candidates[:n], max_depth=self._config.max_depth)
        try:
            await self._run(node_id, drafts)
        except StateLost as loss:
            self._tree[loss.node_id].execution = lost(self._tree[loss.node_id].execution)
            self._tree.close(loss.node_id, NodeOutcome.CODE_FAILED)
            return []
        await self._score(path, drafts)
        await self._judge(drafts)
        return self._add(node_id, drafts)

    async def _run(self, node_id: NodeId, drafts: Sequence[Draft]) -> None:
        """Run the code steps among `drafts` from the state after `node_id`."""
        steps = [draft for draft in drafts if draft.has_code_to_run]
        if not steps:
            return
        state = await self._snapshots.after(node_id)
        executions = await run_all(self._parts.runner.run(state, draft.step.text) for draft in steps)
        before = self._tree.executions(node_id)
        for draft, execution in zip(steps, executions, strict=True):
            draft.execution = execution
            if execution.outcome is not ExecutionOutcome.OK:
                draft.outcome = NodeOutcome.CODE_FAILED
            elif draft.step.stop is CandidateStop.END_OF_CODE:
                draft.step = replace(draft.step, output=observation([*before, execution]))

    async def _score(self, path: Path, drafts: Sequence[Draft]) -> None:
        wanted = {
            NodeOutcome.OPEN: scores_steps(self._config),
            NodeOutcome.ANSWERED: scores_answers(self._config, self._parts),
        }
        survivors = [draft for draft in drafts if wanted.get(draft.outcome, False)]
        scorer = self._parts.scorer
        if not survivors or scorer is None:
            return
        try:
            await _score_together(scorer, path, survivors)
        except PathTooLong:
            # A program may print more than the PPM can read; its siblings are none the worse for it.
            for draft in survivors:
                try:
                    await _score_together(scorer, path, [draft])
                except PathTooLong:
                    draft.outcome = NodeOutcome.TOO_DEEP
                    draft.answer = None

    async def _judge(self, drafts: Sequence[Draft]) -> None:
        for draft in drafts:
            if draft.answer is None:
                continue
            if self._parts.judge is None:
                draft.terminal_value = draft.score
            else:
                draft.terminal_value = _in_range(await self._parts.judge.value(draft.answer), what="judge's value")

    def _add(self, parent: NodeId, drafts: Sequence[Draft]) -> list[NodeId]:
        added: list[NodeId] = []
        for draft in drafts:
            node = _node(draft, id=self._tree.next_id, parent=self._tree[parent])
            if draft.score is not None and scores_steps(self._config):
                give_prior(node, draft.score)
            self._tree.add(node)
            if draft.execution is not None:
                self._snapshots.keep(node.id, draft.execution.snapshot)
            added.append(node.id)
        self._tree.settle(parent)
        return added


async def _score_together(scorer: StepScorer, path: Path, drafts: Sequence[Draft]) -> None:
    paths = [replace(path, steps=(*path.steps, draft.step)) for draft in drafts]
    scores = await scorer.score(paths)
    if len(scores) != len(paths):
        raise BrokenPart(f"scorer returned {len(scores)} scores for {len(paths)} paths")
    for draft, score in zip(drafts, scores, strict=True):
        draft.score = _in_range(score, what="PPM score")


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


def _in_range(number: float, *, what: str) -> float:
    if not (math.isfinite(number) and -1.0 <= number <= 1.0):
        raise BrokenPart(f"{what} must lie in [-1, 1], not {number}")
    return float(number)
