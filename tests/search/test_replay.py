"""Recording and replaying: the same tree byte for byte, however a search ended; a clear error if it does not fit."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search import (
    Budget,
    Calibration,
    Parts,
    RecordFormatError,
    Replay,
    ReplayMismatch,
    SearchConfig,
    SearchResult,
    StopReason,
    Strategy,
    TrajectoryFinished,
    Tree,
    dump_line,
    read_record,
    replay_record,
)
from search import search as run_search
from search.calls import CallKind
from search.codec import load, save
from search.errors import BrokenPart, RecordedFailure
from search.events import Event
from search.protocols import Candidate, Path, PathTooLong
from search.record import Line
from search.testing.delays import Delays, Pause, uneven_turns
from search.testing.fakes import AnswerKey, FunctionScorer, SteppingClock, arithmetic_parts

PROBLEM = "3+4+5+6+7"
seeds = st.integers(0, 10**6)
configs = st.one_of(
    st.builds(SearchConfig, candidates=st.just(4), parallel_rollouts=st.integers(1, 8)),
    st.builds(
        SearchConfig,
        strategy=st.sampled_from([Strategy.MAJORITY, Strategy.BEST_OF_N, Strategy.STEP_BEAM, Strategy.GREEDY]),
        candidates=st.just(4),
        beam_width=st.just(3),
    ),
)


@dataclass
class Recorded:
    """A search, recorded line by line."""

    config: SearchConfig
    budget: Budget = field(default_factory=lambda: Budget(trajectories=10))
    seed: int = 1
    tree: Tree = field(default_factory=lambda: Tree(PROBLEM))
    lines: list[str] = field(default_factory=list[str])

    async def run(self, parts: Parts, *, clock: SteppingClock | None = None) -> SearchResult:
        return await run_search(
            PROBLEM,
            parts=parts,
            record=self.write,
            config=self.config,
            budget=self.budget,
            seed=self.seed,
            now=clock or SteppingClock(0.0),
            tree=self.tree,
        )

    def write(self, line: Line) -> None:
        self.lines.append(dump_line(line))

    async def replayed(self) -> Replay:
        return await replay_record(read_record(self.lines))


def as_bytes(tree: Tree) -> bytes:
    return json.dumps(save(tree)).encode()


def uneven(seed: int) -> Delays:
    return Delays(uneven_turns(random.Random(seed)))


@given(seeds, configs, st.sampled_from([None, AnswerKey("25")]))
def test_a_search_is_replayed_to_the_same_tree_byte_for_byte(
    seed: int, config: SearchConfig, judge: AnswerKey | None
) -> None:
    recorded = Recorded(config, seed=seed)
    result = asyncio.run(recorded.run(uneven(seed).wrap(arithmetic_parts(judge=judge))))
    replayed = asyncio.run(recorded.replayed())
    assert as_bytes(replayed.tree) == as_bytes(result.tree)
    assert replayed.result is not None
    assert replayed.result.answers == result.answers
    assert replayed.result.stop_reason is result.stop_reason
    assert replayed.result.trajectories_to_answer == result.trajectories_to_answer


async def test_a_record_goes_through_a_file(tmp_path: FilePath) -> None:
    file = tmp_path / "search.jsonl"
    recorded = Recorded(SearchConfig(candidates=4, parallel_rollouts=4))
    result = await recorded.run(uneven(5).wrap(arithmetic_parts()))
    file.write_text("".join(recorded.lines), encoding="ascii")
    with file.open(encoding="ascii") as lines:
        record = read_record(lines)
    assert as_bytes((await replay_record(record)).tree) == as_bytes(result.tree)
    # A record can be replayed as often as one likes.
    assert as_bytes((await replay_record(record)).tree) == as_bytes(result.tree)


async def test_a_stop_at_a_fitted_confidence_is_replayed() -> None:
    fit = Calibration(scale=2.0, budget_slope=0.1, offset=1.0)
    recorded = Recorded(SearchConfig(candidates=4, stop_at_confidence=0.85).calibrated(fit))
    result = await recorded.run(uneven(5).wrap(arithmetic_parts()))
    assert result.stop_reason is StopReason.CONVERGED
    replayed = await recorded.replayed()
    assert replayed.result is not None
    assert replayed.result.confidence == result.confidence >= 0.85


async def test_recording_changes_nothing() -> None:
    config, budget = SearchConfig(candidates=4, parallel_rollouts=3), Budget(trajectories=10)
    plain = await run_search(
        PROBLEM, parts=arithmetic_parts(), config=config, budget=budget, seed=1, now=SteppingClock(0.0)
    )
    assert (await Recorded(config).run(arithmetic_parts())).tree == plain.tree


@dataclass
class After:
    """Lets `calls` calls through at uneven speed, then does something else."""

    calls: int
    calmly: Pause
    fails: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, kind: CallKind, size: int) -> None:
        self.calls -= 1
        await self.calmly(kind, size)
        if self.calls < 0:
            self.reached.set()
            if self.fails:
                raise ConnectionError("the part is gone")
            await asyncio.Event().wait()


@given(seeds, configs, st.integers(0, 60))
def test_a_cancelled_search_replays_to_its_cancellation(seed: int, config: SearchConfig, calls: int) -> None:
    recorded = Recorded(config, seed=seed)
    stalling = After(calls, uneven_turns(random.Random(seed)), fails=False)

    async def cancelled() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            task = group.create_task(recorded.run(Delays(stalling).wrap(arithmetic_parts())))
            reached = group.create_task(stalling.reached.wait())
            await asyncio.wait([task, reached], return_when=asyncio.FIRST_COMPLETED)
            for _ in range(calls % 5):  # the rollouts that do not stall go on for a while
                await asyncio.sleep(0)
            task.cancel()
            reached.cancel()

    asyncio.run(cancelled())
    replayed = asyncio.run(recorded.replayed())
    assert as_bytes(replayed.tree) == as_bytes(recorded.tree)
    assert replayed.result is not None
    ending = read_record(recorded.lines).ending
    assert ending is not None
    assert replayed.result.stop_reason is ending.stop_reason


@given(seeds, configs, st.integers(0, 60))
def test_a_failed_search_is_replayed_to_its_failure(seed: int, config: SearchConfig, calls: int) -> None:
    recorded = Recorded(config, seed=seed)
    failing = After(calls, uneven_turns(random.Random(seed)), fails=True)
    failed = False
    try:
        asyncio.run(recorded.run(Delays(failing).wrap(arithmetic_parts())))
    except ConnectionError:
        failed = True
    replayed = asyncio.run(recorded.replayed())
    assert as_bytes(replayed.tree) == as_bytes(recorded.tree)
    assert (replayed.result is None) == failed
    if failed:
        assert isinstance(replayed.error, RecordedFailure)
        assert str(replayed.error) == "ConnectionError: the part is gone"


@given(seeds, configs, st.floats(1, 60))
def test_a_search_stopped_by_the_clock_replays_to_its_deadline(seed: int, config: SearchConfig, seconds: float) -> None:
    recorded = Recorded(config, Budget(trajectories=10, seconds=seconds), seed=seed)
    result = asyncio.run(recorded.run(uneven(seed).wrap(arithmetic_parts()), clock=SteppingClock(1.0)))
    replayed = asyncio.run(recorded.replayed())
    assert as_bytes(replayed.tree) == as_bytes(result.tree)
    assert replayed.result is not None
    assert replayed.result.stop_reason is result.stop_reason


async def test_a_deadline_that_interrupts_a_call_is_replayed() -> None:
    recorded = Recorded(SearchConfig(candidates=4, parallel_rollouts=4), Budget(seconds=0.2))
    stalling = After(30, uneven_turns(random.Random(1)), fails=False)
    result = await run_search(
        PROBLEM,
        parts=Delays(stalling).wrap(arithmetic_parts()),
        record=recorded.write,
        config=recorded.config,
        budget=recorded.budget,
        seed=1,
        now=asyncio.get_running_loop().time,
    )
    assert result.stop_reason is StopReason.DEADLINE
    replayed = await recorded.replayed()
    assert as_bytes(replayed.tree) == as_bytes(result.tree)
    assert replayed.result is not None
    assert replayed.result.stop_reason is StopReason.DEADLINE


@given(seeds, st.integers(1, 6))
def test_a_continued_search_replays_from_its_first_tree(seed: int, width: int) -> None:
    config = SearchConfig(candidates=4, parallel_rollouts=width)
    first = Recorded(config, Budget(trajectories=4), seed=seed)
    asyncio.run(first.run(arithmetic_parts()))
    second = Recorded(config, seed=seed, tree=load(save(first.tree)))
    result = asyncio.run(second.run(uneven(seed).wrap(arithmetic_parts())))
    assert as_bytes(asyncio.run(second.replayed()).tree) == as_bytes(result.tree)


@given(seeds, st.data())
def test_a_record_that_breaks_off_is_replayed_as_far_as_it_goes(seed: int, data: st.DataObject) -> None:
    recorded = Recorded(SearchConfig(candidates=4, parallel_rollouts=4), seed=seed)
    result = asyncio.run(recorded.run(uneven(seed).wrap(arithmetic_parts())))
    text = "".join(recorded.lines)
    first = len(recorded.lines[0])
    cut = text[: data.draw(st.integers(first, len(text) - 1))]
    replayed = asyncio.run(replay_record(read_record(cut.splitlines(keepends=True))))
    whole, part = save(result.tree), save(replayed.tree)
    assert part["applied"] <= whole["applied"]  # type: ignore[operator]
    steps = [node.step for node in result.tree.nodes]
    assert [node.step for node in replayed.tree.nodes] == steps[: len(replayed.tree.nodes)]


async def test_a_path_too_long_is_replayed_as_such() -> None:
    def full(path: Path) -> float:
        if len(path.steps) > 3:
            raise PathTooLong("no room")
        return 0.1

    parts = replace(arithmetic_parts(), scorer=FunctionScorer(full))
    recorded = Recorded(SearchConfig(candidates=4, parallel_rollouts=3))
    result = await recorded.run(parts)
    assert as_bytes((await recorded.replayed()).tree) == as_bytes(result.tree)


async def test_a_fault_of_the_search_itself_happens_again() -> None:
    class Wild:
        calls = 0

        async def score(self, paths: Sequence[Path]) -> Sequence[float]:
            self.calls += 1
            return [9.0 if self.calls == 4 else 0.5] * len(paths)

    recorded = Recorded(SearchConfig(candidates=4, parallel_rollouts=3))
    with pytest.raises(BrokenPart, match="PPM score must lie"):
        await recorded.run(replace(arithmetic_parts(), scorer=Wild()))
    replayed = await recorded.replayed()
    assert isinstance(replayed.error, BrokenPart)
    assert as_bytes(replayed.tree) == as_bytes(recorded.tree)


async def test_an_event_listener_that_failed_is_absent_from_the_replay() -> None:
    recorded = Recorded(SearchConfig(candidates=4, parallel_rollouts=3))
    finished: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, TrajectoryFinished):
            finished.append(event)
            if len(finished) == 3:
                raise RuntimeError("listener is broken")

    with pytest.raises(RuntimeError, match="listener is broken"):
        await run_search(
            PROBLEM,
            parts=arithmetic_parts(),
            record=recorded.write,
            config=recorded.config,
            budget=recorded.budget,
            seed=1,
            now=SteppingClock(0.0),
            on_event=listen,
            tree=recorded.tree,
        )
    replayed = await recorded.replayed()
    assert replayed.result is not None
    assert replayed.tree.trajectories == recorded.tree.trajectories == 3


async def lines_of_a_search() -> list[str]:
    recorded = Recorded(SearchConfig(candidates=4))
    await recorded.run(arithmetic_parts())
    return recorded.lines


def changed(lines: list[str], kind: str, *, request: dict[str, object]) -> list[str]:
    """The first call of the kind asks something else."""
    index = next(index for index, line in enumerate(lines) if json.loads(line)["kind"] == kind)
    line = json.loads(lines[index])
    line["request"] |= request
    return [*lines[:index], json.dumps(line) + "\n", *lines[index + 1 :]]


@pytest.mark.parametrize(
    ("kind", "other", "named"),
    [
        ("policy", {"seed": 7}, r"call 0 of 'expand 0' differs: the search asks policy .*; the record has policy .*7"),
        ("runner", {"code": "x"}, r"call \d of 'expand 0' differs: the search asks runner .*; the record has runner"),
        ("scorer", {"paths": ""}, r"call \d of 'expand 0' differs: the search asks scorer"),
    ],
)
async def test_the_first_call_that_differs_is_named(kind: str, other: dict[str, object], named: str) -> None:
    lines = changed(await lines_of_a_search(), kind, request=other)
    with pytest.raises(ReplayMismatch, match=named):
        await replay_record(read_record(lines))


async def test_a_call_that_the_record_does_not_have_is_named() -> None:
    lines = await lines_of_a_search()
    index = next(index for index, line in enumerate(lines) if json.loads(line)["kind"] == "scorer")
    with pytest.raises(ReplayMismatch, match=r"the search asks scorer .*; the record has no such call"):
        await replay_record(read_record([*lines[:index], *lines[index + 1 :]]))


async def test_a_search_that_goes_on_beyond_the_record_is_told_so() -> None:
    lines = await lines_of_a_search()
    beginning = json.loads(lines[0])
    beginning["budget"]["trajectories"] = 12
    with pytest.raises(ReplayMismatch, match=r"ended here \(budget\), after \d+ results; this one goes on with"):
        await replay_record(read_record([json.dumps(beginning) + "\n", *lines[1:]]))


async def test_a_search_that_stops_before_the_record_does_is_told_so() -> None:
    lines = await lines_of_a_search()
    beginning = json.loads(lines[0])
    beginning["budget"]["trajectories"] = 2
    with pytest.raises(ReplayMismatch, match=r"stopped \(budget\) after \d+ results; the record goes on with"):
        await replay_record(read_record([json.dumps(beginning) + "\n", *lines[1:]]))


async def test_an_operation_that_was_never_begun_is_named() -> None:
    lines = [line.replace('"expand 0"', '"expand 99"') for line in await lines_of_a_search()]
    with pytest.raises(ReplayMismatch, match="the record has 'expand 99' next, as result 1"):
        await replay_record(read_record(lines))


async def test_what_is_not_one_record_is_refused() -> None:
    lines = await lines_of_a_search()
    for wrong in ([], lines[1:], [lines[0], *lines], [*lines, lines[1]]):
        with pytest.raises(RecordFormatError):
            read_record(wrong)


async def test_restored_states_are_replayed_with_several_rollouts() -> None:
    class Wide:
        async def propose(self, path: Path, n: int, *, seed: int) -> Sequence[Candidate]:
            return (await arithmetic_parts(0.2).policy.propose(path, n, seed=seed))[:n]

    config = SearchConfig(candidates=6, parallel_rollouts=5)
    first = Recorded(config, Budget(trajectories=2), seed=4)
    await first.run(replace(arithmetic_parts(0.2), policy=Wide()))
    second = Recorded(config, Budget(trajectories=9), seed=4, tree=load(save(first.tree)))
    result = await second.run(uneven(8).wrap(replace(arithmetic_parts(0.2), policy=Wide())))
    assert as_bytes((await second.replayed()).tree) == as_bytes(result.tree)
