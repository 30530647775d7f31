"""The application as the golden tests see it: real from the HTTP edge to the search, with fake models and sandbox.

Only this file of these tests imports the product's modules, so only this file changes when something moves.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import httpx
from pydantic import SecretStr

from search import (
    Budget,
    Candidate,
    Event,
    Execution,
    ExecutionOutcome,
    Policy,
    SearchConfig,
    SearchResult,
    Strategy,
    TreePolicy,
    Values,
    save,
    search,
)
from search.testing.fakes import (
    AnswerKey,
    ArithmeticPolicy,
    ArithmeticRunner,
    FunctionScorer,
    PathKey,
    ScriptedPolicy,
    ScriptedRunner,
    SteppingClock,
    answer,
    arithmetic_parts,
    hashed_score,
    last_step,
    step,
)
from server.parts.fakes import GatedPolicy, fake_parts, opening
from server.parts.serving import Part
from server.settings.settings import Settings
from tests.server.serving import serve

API_KEY = "golden-0123456789"

_ALONE = SearchConfig(candidates=4, parallel_rollouts=1, beam_width=2, stop_when_decided=False)
_SEARCH_CONFIGS = {
    "mcts_uct": _ALONE,
    "mcts_puct": replace(_ALONE, tree_policy=TreePolicy.PUCT, exploration=1.0),
    "mcts_terminal_guided": replace(_ALONE, values=Values.TERMINAL_GUIDED),
    "greedy": replace(_ALONE, strategy=Strategy.GREEDY),
    "majority": replace(_ALONE, strategy=Strategy.MAJORITY),
    "best_of_n": replace(_ALONE, strategy=Strategy.BEST_OF_N),
    "step_beam": replace(_ALONE, strategy=Strategy.STEP_BEAM),
}
SEARCHES = tuple(_SEARCH_CONFIGS)
"""Searches that the golden tests run without a server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An application that serves, and a client of it."""

    client: httpx.AsyncClient
    searching: Callable[[], Awaitable[object]]
    """Waits until a search asks the policy; only with `hold`."""
    release: Callable[[], None]
    """Lets the policy answer; only with `hold`."""
    break_ppm: Callable[[], None]
    """From now on the server says that its PPM does not work."""


@asynccontextmanager
async def fake_service(
    *, hold: bool = False, scripted: bool = False, keyed: bool = False, settings: Mapping[str, object] | None = None
) -> AsyncGenerator[Service]:
    """Sums such as "3+4+5" are solved. With `hold` the policy waits; with `scripted` it knows one other problem."""
    gated = GatedPolicy()
    policy: Policy = gated if hold else ArithmeticPolicy()
    runner = ScriptedRunner(_EXECUTIONS) if scripted else ArithmeticRunner()
    faults: dict[Part, str] = {}
    parts = fake_parts(
        policy=ScriptedPolicy(_SCRIPT) if scripted else policy,
        scorer=FunctionScorer(hashed_score),
        open_runner=lambda _: runner,
        faults=faults,
    )
    keys = {"api_keys": SecretStr(f"golden={API_KEY}")} if keyed else {}
    async with serve(opening(parts), settings=Settings.model_validate({**(settings or {}), **keys})) as served:
        yield Service(
            client=served.client,
            searching=gated.entered.wait,
            release=gated.gate.set,
            break_ppm=lambda: faults.update({Part.PPM: "its engine failed"}),
        )


async def run_search(name: str) -> tuple[dict[str, object], list[str]]:
    """One of `SEARCHES`: its result with the saved tree, and its events."""
    events: list[Event] = []
    config = _SEARCH_CONFIGS[name]
    parts = arithmetic_parts(0.3)
    if config.values is Values.TERMINAL_GUIDED:
        parts = replace(parts, scorer=None, judge=AnswerKey("12"))
    result = await search(
        "3+4+5",
        parts=parts,
        config=config,
        budget=Budget(trajectories=6),
        seed=12,
        now=SteppingClock(),
        on_event=events.append,
    )
    return _result_as_json(result), [type(event).__name__ for event in events]


def _result_as_json(result: SearchResult) -> dict[str, object]:
    return {
        "stop_reason": result.stop_reason,
        "confidence": result.confidence,
        "answers": [[group.answer, group.votes, group.weight, list(group.node_ids)] for group in result.answers],
        "best_path": list(result.best_path),
        "tree": save(result.tree),
    }


SCRIPTED_PROBLEM = r"What is \(\frac{1}{2} + \frac{1}{4}\)?"
_FIRST = "# Add the fractions\nfrom fractions import Fraction\ntotal = Fraction(1, 2) + Fraction(1, 4)"
_WRONG = "# Divide by nothing\ntotal = 1 / 0"
_PRINT = "# Print the sum\nprint(total)"
_SCRIPT: dict[PathKey, list[Candidate]] = {
    (): [step(_FIRST, tokens=20, logprob=-2.5), step(_WRONG, tokens=9, logprob=-4.0)],
    (f"\n{_FIRST}\n",): [last_step(_PRINT, tokens=7)],
    (f"\n{_FIRST}\n", f"\n{_PRINT}\n"): [
        answer(r"\frac{3}{4}", tokens=11),
        answer(r"\frac{3}{4}", wording="It is", tokens=8, logprob=-3.0),
        answer(r"\frac{1}{2}", wording="Perhaps", tokens=5, logprob=-6.0),
    ],
}
_EXECUTIONS = {
    _PRINT: Execution(outcome=ExecutionOutcome.OK, stdout="3/4\n"),
    _WRONG: Execution(outcome=ExecutionOutcome.ERROR, error="ZeroDivisionError: division by zero"),
}
