"""`python -m server.demo`: starts a server, solves two problems over HTTP while you watch, and stops the server.

With PROBLEM in the environment it solves that one. Exits with 0 if everything went well and the known answers were
found, else with 1 and the reason. Nothing is left running, whichever way it ends.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from http import HTTPStatus

import httpx
from rich.console import Console
from rich.live import Live
from rich.text import Text

from search import Verdict
from server.answers.comparison import decide_exactly
from server.demo.display import LiveSearch, show_problem, show_response, starting_text
from server.demo.server import DemoFailed, started_server
from server.http.schemas import ProblemDetails, SolveResponse
from server.http.streams import read_frames

SILENCE_S = 60.0
"""Longest wait for the next bytes of a stream; the server sends a heartbeat every ten seconds."""

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

StartServer = Callable[[Callable[[Mapping[str, str]], None]], AbstractAsyncContextManager[str]]
"""Takes a callback for progress, gives the URL of a ready server, and stops the server at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoProblem:
    """A problem with its known answer."""

    question: str
    answer: str
    origin: str
    """Family, split and index of the problem."""
    seed: int = 0
    """Seed of the search."""


DEMO_PROBLEMS = (
    DemoProblem(
        question=(
            "Ava went to the cafe and bought various types of treats. She bought 5 dozen donuts which cost $16 per "
            "dozen, 10 dozen tarts which cost $83 per dozen, and 6 dozen brownies for $116 per dozen. How much was the "
            "total cost? Give the result as your final answer. Do not include units."
        ),
        answer="1606",
        origin="gsm_symbolic/test/0",
        seed=2,  # one of the 16 seeds among 0 to 19 with which the bundled models get it right; 0 is not
    ),
    DemoProblem(
        question="Determine the value of y that satisfies: 85 - 83*y = -6389",
        answer="78",
        origin="simple_equations/test/0",
    ),
)
"""The first test problem of two families."""

_NEXT = """
Try next:
  make demo PROBLEM='Find the Least Common Multiple (LCM) of these numbers: 84, 36'    a problem of your own
  make serve                                                                           keep the server running"""


def main(arguments: Sequence[str]) -> None:
    """Exits; never returns."""
    parser = argparse.ArgumentParser(
        prog="python -m server.demo",
        description="Start a server, solve two built-in problems over HTTP in view, and stop the server.",
        epilog="PROBLEM in the environment is solved in their place: make demo PROBLEM='...'. Settings (RSTAR_*) are "
        "the server's. The exit code is 0 where all went well, else 1.",
    )
    parser.parse_args(arguments)
    console = Console(highlight=False)
    try:
        interrupted_by = asyncio.run(_until_signal(run_demo(console, problem=own_problem(os.environ))))
    except DemoFailed as failure:
        console.print(Text(f"The demo failed: {failure}", style="red"))
        sys.exit(1)
    if interrupted_by is not None:
        console.print("Interrupted; the server is stopped.")
        sys.exit(128 + interrupted_by)
    sys.exit(0)


async def _until_signal(work: Coroutine[None, None, None]) -> int | None:
    """Do the work. The first signal cancels it, so that every `finally` runs; the number of that signal, if one came.

    A handler that raised an exception would not do: the exception is lost where Python happens to run a callback.
    """
    received: list[int] = []
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt(number: int) -> None:
        if not received:  # a second signal must not break off the cleaning up
            task.cancel()
        received.append(number)

    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # a shell ignores some for background jobs
            loop.add_signal_handler(number, interrupt, number)
    try:
        await work
    except asyncio.CancelledError:
        if not received:
            raise
    return received[0] if received else None


def own_problem(environment: Mapping[str, str]) -> str:
    """The user's own problem, empty where there is none; bytes that are not UTF-8 become replacement characters."""
    return environment.get("PROBLEM", "").encode("utf-8", "surrogateescape").decode("utf-8", "replace")


async def run_demo(
    console: Console,
    *,
    problem: str = "",
    known: Sequence[DemoProblem] = DEMO_PROBLEMS,
    start: StartServer = started_server,
) -> None:
    """Solve `problem`, or where it is empty the `known` ones, on a server that is stopped at the end.

    Raises `DemoFailed`.
    """
    if problem and not problem.strip():
        raise DemoFailed("problem: must not be blank")
    with console.status("Starting the server") as status:
        async with start(lambda parts: status.update(starting_text(parts))) as url:
            status.stop()
            wrong = [] if problem else [one for one in known if not await _is_solved(console, url, one)]
            if problem:
                await _solve(console, url, problem)
            console.print("\nStopping the server")
    if wrong:
        missed = "; ".join(f"{one.answer} is the answer to: {one.question}" for one in wrong)
        raise DemoFailed(f"{len(wrong)} of {len(known)} answers are wrong. {missed}")
    console.print(_NEXT, markup=False, soft_wrap=True)


async def _is_solved(console: Console, url: str, known: DemoProblem) -> bool:
    answer = (await _solve(console, url, known.question, seed=known.seed)).answer
    is_right = answer is not None and decide_exactly(answer, known.answer) is Verdict.SAME
    if is_right:
        console.print(Text(f"Right: the known answer is {known.answer}", style="green"))
    else:
        console.print(Text(f"Wrong: the known answer is {known.answer}", style="red"))
    return is_right


async def _solve(console: Console, url: str, problem: str, *, seed: int = 0) -> SolveResponse:
    """Show the search while it runs, then its steps and answer."""
    show_problem(console, problem)
    search = LiveSearch()
    body = {"problem": problem, "seed": seed, "stream": True}
    with Live(search, console=console, transient=True, refresh_per_second=8):
        response = await asyncio.to_thread(_ask, url, body, search)
    show_response(console, response)
    return response


def _ask(url: str, body: Mapping[str, object], search: LiveSearch) -> SolveResponse:
    try:
        # The environment's proxies are not for addresses of this machine.
        with httpx.stream("POST", f"{url}/solve", json=body, timeout=SILENCE_S, trust_env=False) as response:
            if response.status_code != HTTPStatus.OK:
                raise DemoFailed(_reason(ProblemDetails.model_validate_json(response.read())))
            for event in read_frames(response.iter_lines()):
                match event.name:
                    case "done":
                        return SolveResponse.model_validate(event.payload)
                    case "error":
                        raise DemoFailed(ProblemDetails.model_validate(event.payload).detail)
                    case _:
                        search.update(event)
    except httpx.HTTPError as error:
        raise DemoFailed(f"the server did not answer: {type(error).__name__}: {error}") from error
    raise DemoFailed("the stream ended without an answer")


def _reason(details: ProblemDetails) -> str:
    if details.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:  # of the body nothing but the problem is the user's
        return f"the problem is too long: {details.detail}"
    return details.detail


if __name__ == "__main__":
    main(sys.argv[1:])
