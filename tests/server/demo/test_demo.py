"""The demo: its output and exit code, with a server over fake parts and with a real one."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from rich.console import Console

from search.testing.fakes import ArithmeticPolicy
from server.app import create_app
from server.bundle.folders import ModelFolders
from server.demo.__main__ import DEMO_PROBLEMS, DemoProblem, own_problem, run_demo
from server.demo.display import LiveSearch, show_problem, starting_text
from server.demo.server import DemoFailed, started_server
from server.http.streams import ServerEvent
from server.parts.fakes import fake_parts, opening
from server.settings.settings import Settings
from server.solving.solver import Solver
from training.problems.families import Family, Split

ROOT = Path(__file__).parents[3]
SUM = DemoProblem(question="3+4+5", answer="12.0", origin="sums")


@asynccontextmanager
async def _fake_server(_: Callable[[Mapping[str, str]], None]) -> AsyncGenerator[str]:
    """A server of this process over fake parts that make no mistakes."""
    ready = threading.Event()
    parts = opening(fake_parts(policy=ArithmeticPolicy(error_rate=0.0)))
    solver = Solver(parts, Settings(concurrent_searches=1), on_ready=ready.set)
    config = uvicorn.Config(create_app(solver, Settings()), port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert ready.wait(20)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


def _console() -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, width=200, highlight=False), shown


async def test_a_known_problem_is_solved_shown_and_found_right() -> None:
    console, shown = _console()
    await run_demo(console, known=[SUM], start=_fake_server)
    text = shown.getvalue()
    for expected in ("Problem: 3+4+5", "total = 3", "print(total)", "→ 12", "Answer: 12", "Right:", "make serve"):
        assert expected in text


async def test_a_wrong_answer_fails_the_demo_with_the_right_one() -> None:
    console, shown = _console()
    wrong = DemoProblem(question="1+1", answer="3", origin="sums")
    with pytest.raises(DemoFailed, match=r"1 of 2 answers are wrong. 3 is the answer to: 1\+1"):
        await run_demo(console, known=[wrong, SUM], start=_fake_server)
    assert "Right: the known answer is 12.0" in shown.getvalue()
    assert "make serve" not in shown.getvalue()


async def test_the_users_own_problem_is_solved_instead() -> None:
    console, shown = _console()
    await run_demo(console, problem="20+22", known=[SUM], start=_fake_server)
    assert "Answer: 42" in shown.getvalue()
    assert "3+4+5" not in shown.getvalue()


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        ("not a sum", "a part of the server failed"),
        ("1+" * 5000, "problem: at most 8000 characters allowed"),
        ("1+" * 50_000, "the problem is too long: at most 65536 bytes allowed"),
    ],
)
async def test_what_the_server_says_about_a_problem_is_the_reason(problem: str, reason: str) -> None:
    console, _ = _console()
    with pytest.raises(DemoFailed, match=reason):
        await run_demo(console, problem=problem, start=_fake_server)


async def test_a_blank_problem_is_refused_before_a_server_starts() -> None:
    def start(_: Callable[[Mapping[str, str]], None]) -> AbstractAsyncContextManager[str]:
        pytest.fail("no server is needed")

    with pytest.raises(DemoFailed, match="problem: must not be blank"):
        await run_demo(_console()[0], problem=" \n", start=start)


def test_of_a_long_problem_the_beginning_is_shown() -> None:
    console, shown = _console()
    show_problem(console, "1+" * 50_000)
    assert len(shown.getvalue()) < 1000
    assert "… (100000 characters)" in shown.getvalue()


async def test_a_server_that_is_gone_is_the_reason() -> None:
    @asynccontextmanager
    async def start(_: Callable[[Mapping[str, str]], None]) -> AsyncGenerator[str]:
        yield "http://127.0.0.1:9"

    with pytest.raises(DemoFailed, match="the server did not answer"):
        await run_demo(_console()[0], problem="1+1", start=start)


def test_the_own_problem_is_the_variable_as_text() -> None:
    assert own_problem({}) == ""
    assert own_problem({"PROBLEM": "½ [bold]"}) == "½ [bold]"
    assert own_problem({"PROBLEM": "a\udcffb"}) == "a\ufffdb"


def test_the_display_follows_events_and_shows_markup_as_text() -> None:
    search = LiveSearch()
    for event in (
        ServerEvent("search_started", {"id": "s", "trajectories": 16}),
        ServerEvent("node", {"text": "\n# [red]Add[/red]\nx = 1\n"}),
        ServerEvent("trajectory", {"index": 0}),
        ServerEvent("answer_changed", {"answer": "[bold]", "confidence": 0.5}),
        ServerEvent("something_new", {}),
    ):
        search.update(event)
    console, shown = _console()
    console.print(search)
    for expected in ("1 of 16, 1 node\n", "[bold]", "confidence 0.50", "[red]Add[/red]"):
        assert expected in shown.getvalue()


def test_the_display_survives_what_json_may_hold() -> None:
    search = LiveSearch()
    search.update(ServerEvent("node", json.loads('{"text": null}')))
    assert search.nodes == 0


def test_progress_names_waiting_parts_in_one_terminal_line() -> None:
    parts: dict[str, str] = {"policy": "starting", "ppm": "starting", "sandbox": "starting", "equality": "starting"}
    assert starting_text({**parts, "ppm": "ready"}) == "Starting the server: waiting for policy, sandbox, equality"
    assert starting_text({"policy": "out of memory"}) == "Starting the server: waiting for policy (out of memory)"
    assert starting_text({}) == "Starting the server"
    assert len(starting_text(parts)) < 78


def test_the_built_in_problems_have_answers() -> None:
    assert len(DEMO_PROBLEMS) == 2
    assert all(problem.question and problem.answer and problem.origin for problem in DEMO_PROBLEMS)


@pytest.mark.slow
async def test_a_server_that_cannot_start_is_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSTAR_POLICY_MODEL", "/nothing")
    monkeypatch.setenv("RSTAR_PPM_MODEL", "/nothing")
    reason = "exit code 1:\nrstar: RSTAR_POLICY_MODEL: /nothing is no model folder"
    with pytest.raises(DemoFailed, match=reason):
        async with started_server(lambda _: None):
            pass


# The command itself, over real parts ----------------------------------------------------------------------------------


def _environment(models: ModelFolders, problem: str) -> dict[str, str]:
    named = {"RSTAR_POLICY_MODEL": str(models.policy), "RSTAR_PPM_MODEL": str(models.ppm), "PROBLEM": problem}
    return {**os.environ, **named, "OMP_NUM_THREADS": "1"}


def _mentioning(text: str) -> list[int]:
    """Processes with `text` in their environment."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) != os.getpid():
            try:
                if text.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


COMMAND = [sys.executable, "-m", "server.demo"]


def test_help_starts_no_server() -> None:
    ended = subprocess.run([*COMMAND, "--help"], cwd=ROOT, capture_output=True, check=False, text=True, timeout=100)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "make demo PROBLEM=" in ended.stdout


@pytest.mark.slow
def test_the_command_solves_the_users_problem_and_stops_all(
    model_folders: ModelFolders,
) -> None:
    environment = _environment(model_folders, "What is $1 + 1$? <code>")
    ended = subprocess.run(COMMAND, cwd=ROOT, env=environment, capture_output=True, check=False, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "What is $1 + 1$? <code>" in ended.stdout
    assert "Stopping the server" in ended.stdout
    assert ended.stderr == ""
    assert _mentioning(str(model_folders.policy)) == []


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_command_stops_its_server(
    model_folders: ModelFolders, number: signal.Signals, exit_code: int
) -> None:
    environment = _environment(model_folders, "1+1")
    # A shell starts its background jobs with interrupts ignored, and the tests may run in one.
    heeding = ["env", "--default-signal", *COMMAND]
    process = subprocess.Popen(
        heeding, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    give_up_s = time.monotonic() + 60
    while len(_mentioning(str(model_folders.policy))) < 2 and time.monotonic() < give_up_s:
        time.sleep(0.05)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == exit_code, output
    assert "Traceback" not in output
    assert _mentioning(str(model_folders.policy)) == []


def test_the_demo_problems_are_the_first_of_their_test_splits() -> None:
    for known in DEMO_PROBLEMS:
        name, split, index = known.origin.split("/")
        problem = next(iter(Family(name).draw(Split(split), 1, start=int(index))))
        assert (known.question, known.answer) == (problem.question, problem.answer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "problem", ["", "Find the Least Common Multiple (LCM) of these numbers: 84, 36"], ids=["built in", "own"]
)
def test_the_demo_solves_its_problems_on_the_bundled_models(problem: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RSTAR_")}
    run = subprocess.run(
        [sys.executable, "-m", "server.demo"],
        cwd=ROOT,
        env={**environment, "PROBLEM": problem},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert ("Answer: 252" if problem else "Right: the known answer is 1606") in run.stdout
