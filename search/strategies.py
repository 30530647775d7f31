"""Strategies: `search`, the entry to the package, and how each strategy but MCTS makes its trajectories.

`search` checks the request, runs the strategy and keeps the deadline. The baselines (greedy, majority, best of n, step
beam) share interface, budget and tree with MCTS, so that they can be compared at equal tokens. They build **branches**:
trajectories in a tree of their own, grafted below the common root when finished, in the order in which they began. So
the tree does not depend on which of the branches in flight is faster. Branches begun before the budget was known to be
spent are thrown away. So the tree overshoots its tokens by less than one branch, and its trajectories not at all.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, NamedTuple, assert_never

from search.budget import Budget, Stop
from search.calls import Operations, listening, operations, run_all
from search.config import SearchConfig, Strategy
from search.errors import RecordEnds
from search.events import OnEvent
from search.expansion import propose
from search.mcts import mcts
from search.outcomes import NodeOutcome, StopReason
from search.protocols import Parts, check_parts
from search.record import Applied, Beginning, Ending, OnLine, recording
from search.run import Run, SearchResult
from search.tree import ROOT, Node, NodeId, Tree

TRAJECTORIES_IN_FLIGHT = 8
"""For majority and best of n: enough to give the engine a batch; a token budget wastes what surplus ones generate."""

ROUNDS_IN_FLIGHT = 2
"""For step beam: while one waits for the slowest path of its level, the other keeps the engine busy."""


async def search(  # noqa: PLR0913 - the entry to the package: every argument is a part, a setting or a limit
    problem: str,
    *,
    parts: Parts,
    config: SearchConfig,
    budget: Budget,
    seed: int,
    now: Callable[[], float],
    on_event: OnEvent | None = None,
    tree: Tree | None = None,
    stop: Stop | None = None,
    record: OnLine | None = None,
) -> SearchResult:
    """Search for the answer to `problem`.

    `now` reads a monotonic clock in seconds. `tree` continues an earlier search of the same problem with the same
    config and seed. It is changed in place, and is consistent at every await, so that a caller who cancels still holds
    everything found so far. Cancelling ends every call in flight; `stop` does so too, and still returns the result.
    `record` gets the lines of a record, from which `search.replay` can run the search again. An exception of a part
    ends the search and comes out as it was raised; `BrokenPart` says that a part broke its contract.
    """
    check_parts(config, parts)
    tree = Tree(problem) if tree is None else tree
    if tree.problem != problem:
        raise ValueError(f"the tree was made for another problem: {tree.problem!r}, not {problem!r}")
    beginning = Beginning(
        problem=problem,
        config=config,
        budget=budget,
        seed=seed,
        has_scorer=parts.scorer is not None,
        has_judge=parts.judge is not None,
        tree=tree,
    )
    write: OnLine = record or (lambda _: None)

    def parts_for(scope: str) -> Parts:
        return parts if record is None else listening(parts, recording(record, scope))

    run = Run(beginning, parts_for=parts_for, now=now, on_applied=lambda name: write(Applied(operation=name)))
    write(beginning)
    reason, failure = None, None
    try:
        reason = await run_to_end(run, on_event=on_event, stop=stop)
        return run.result(reason)
    except asyncio.CancelledError:
        reason = StopReason.CANCELLED
        raise
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
        raise
    finally:
        write(Ending(applied=tree.applied, stop_reason=reason, error=failure))


async def run_to_end(run: Run, *, on_event: OnEvent | None, stop: Stop | None = None) -> StopReason:
    """Make trajectories until the budget is spent, the answer is sure, or the deadline or `stop` interrupts."""
    stop = stop or Stop()
    limit_s = run.budget.seconds
    left_s = None if limit_s is None else max(0.0, limit_s - run.elapsed_s())
    deadline = asyncio.timeout(left_s)
    try:
        async with deadline:
            with stop.ending(deadline):
                async with operations(run.tree, tape=run.tape, on_applied=run.on_applied) as calls:
                    await run.begin(calls, on_event)
                    return await _make_trajectories(run, calls)
    except TimeoutError:
        # An engine may raise TimeoutError itself: that is a broken part, not our deadline.
        if not deadline.expired():
            raise
        return StopReason.CANCELLED if stop.is_asked else StopReason.DEADLINE
    except RecordEnds as end:
        return end.reason


async def _make_trajectories(run: Run, calls: Operations) -> StopReason:
    match run.config.strategy:
        case Strategy.MCTS:
            return await mcts(run, calls)
        case Strategy.GREEDY:
            return await greedy(run, calls)
        case Strategy.MAJORITY | Strategy.BEST_OF_N:
            return await independent(run, calls)
        case Strategy.STEP_BEAM:
            return await step_beam(run, calls)
        case _:
            assert_never(run.config.strategy)


async def greedy(run: Run, calls: Operations) -> StopReason:
    """One trajectory: a policy that decides greedily would only repeat it."""
    return await _take_branches(run, calls, _draw, name="draw", at_once=1, most=1)


async def independent(run: Run, calls: Operations) -> StopReason:
    """Independent trajectories, several at once, until the budget is spent: majority and best of n."""
    return await _take_branches(run, calls, _draw, name="draw", at_once=TRAJECTORIES_IN_FLIGHT)


async def step_beam(run: Run, calls: Operations) -> StopReason:
    """Rounds of beam search over steps until the budget is spent: the best-scored candidates of a level go on."""
    return await _take_branches(run, calls, _beam, name="round", at_once=ROUNDS_IN_FLIGHT, width=run.config.beam_width)


class Branch(NamedTuple):
    """Trajectories in a tree of their own."""

    tree: Tree
    ends: tuple[NodeId, ...]
    """The nodes where they ended."""


class _Planned(NamedTuple):
    """A branch to be made."""

    name: str
    """Name of the operation."""
    width: int
    """Trajectories at most."""
    draw: int
    """Its first trajectory in the tree, which separates its seeds from those of other branches."""


async def _take_branches(  # noqa: PLR0913 - the baselines differ in nothing but these arguments
    run: Run,
    calls: Operations,
    make: Callable[[Run, _Planned], Coroutine[Any, Any, Branch]],
    *,
    name: str,
    at_once: int,
    width: int = 1,
    most: int | None = None,
) -> StopReason:
    """Make branches of `width` trajectories, `at_once` in flight, until the budget is spent or `most` are made.

    Branches become part of the tree in the order of beginning.
    """
    in_flight: deque[_Planned] = deque()
    finished: list[Branch] = []
    draw = run.tree.trajectories
    while (reason := run.stop_reason()) is None:
        if run.tree.root.is_dead or run.tree.trajectories == most:
            return StopReason.EXHAUSTED
        while len(in_flight) < at_once and (left := _width_left(run, in_flight, width)):
            plan = _Planned(f"{name} {draw}", left, draw)
            in_flight.append(plan)
            calls.start(plan.name, partial(make, run, plan), then=finished.append)
            draw += left
        await calls.apply_next(in_flight.popleft().name)
        _graft(run, finished.pop())
        await run.count_all(calls)
    return reason


def _width_left(run: Run, in_flight: Iterable[_Planned], width: int) -> int:
    """The width of the next branch: no more than the budget and the branches in flight leave."""
    left = run.budget.trajectories_left(run.tree.trajectories)
    return width if left is None else min(width, max(0, left - sum(plan.width for plan in in_flight)))


def _graft(run: Run, branch: Branch) -> None:
    """Make finished trajectories part of the run."""
    offset = len(run.tree.nodes) - 1
    added = run.tree.graft(branch.tree)
    if not added:
        # Not even a first step fits behind the problem: another sample would change nothing.
        run.tree.close(ROOT, branch.tree.root.outcome)
    run.report_added(added)
    for end in branch.ends:
        run.finish_trajectory(NodeId(end + offset) if added else ROOT)


async def _draw(run: Run, planned: _Planned) -> Branch:
    """One trajectory of one candidate per step."""
    branch = Tree(run.tree.problem)
    expander = run.expander(branch)
    parts = run.parts_for(planned.name)
    node = branch.root
    while node.outcome is NodeOutcome.OPEN:
        plan = expander.plan(node.id, n=1, draw=planned.draw)
        children = expander.apply(await propose(plan, parts=parts, config=run.config))
        if not children:
            break
        node = branch[children[0]]
    return Branch(branch, (node.id,))


async def _beam(run: Run, planned: _Planned) -> Branch:
    """One round of step beam: several paths, followed from the root level by level.

        expand every path of the beam, all at once -> rank all live children of the level by score -> keep the best

    A path that states an answer, or whose candidates all fail, is a finished trajectory and gives up its place. So a
    round makes as many trajectories as it is wide, or fewer where candidates are few. A level waits for its slowest
    path, since the ranking needs all of them.
    """
    branch = Tree(run.tree.problem)
    expander = run.expander(branch)
    beam = [branch.root]
    ends: list[NodeId] = []
    while beam:
        plans = [expander.plan(node.id, n=run.config.candidates, draw=planned.draw) for node in beam]
        proposals = await run_all(
            propose(plan, parts=run.parts_for(f"{planned.name}/{plan.node.id}"), config=run.config) for plan in plans
        )
        children: list[Node] = []
        for node, proposal in zip(beam, proposals, strict=True):
            added = [branch[child] for child in expander.apply(proposal)]
            children += [child for child in added if not child.is_dead]
            if node.is_dead or proposal.closes is not None:
                ends.append(added[0].id if node.id == ROOT and added else node.id)
        best = sorted(children, key=lambda child: (-(child.score or 0.0), child.id))[: planned.width - len(ends)]
        ends += [child.id for child in best if child.outcome is NodeOutcome.ANSWERED]
        beam = [child for child in best if child.outcome is NodeOutcome.OPEN]
    return Branch(branch, tuple(ends))
