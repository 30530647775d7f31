"""`python -m training evaluate` measures a server, a file of problems and the bundled models, and resumes."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr

from search.testing.fakes import ArithmeticPolicy
from server.app import create_app
from server.parts.fakes import fake_parts, opening
from server.settings.settings import Settings
from server.solving.solver import Solver
from training.command import main

ROOT = Path(__file__).parents[3]
KEY = "evaluation-0123456789"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of sums in a thread of its own, which asks for a key."""
    ready = threading.Event()
    settings = Settings(api_keys=SecretStr(f"me={KEY}"), concurrent_searches=2, access_log=False)
    solver = Solver(opening(fake_parts(policy=ArithmeticPolicy(0.4))), settings, on_ready=ready.set)
    config = uvicorn.Config(create_app(solver, settings), port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    assert ready.wait(20)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)


def _problems(folder: Path, count: int) -> Path:
    file = folder / "sums.json"
    file.write_text(json.dumps([{"question": f"{number}+3+4", "answer": str(number + 7)} for number in range(count)]))
    return file


@pytest.mark.slow
def test_a_server_is_measured_and_the_folder_resumed(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, folder, figures = tmp_path / "key", tmp_path / "results", tmp_path / "deep" / "figures.json"
    key.write_text(f"{KEY}\n")
    line = ["evaluate", "--url", address, "--api-key-file", str(key), "--trajectories", "6", "--folder", str(folder)]
    line += ["--json", str(figures), "--concurrency", "4"]
    methods = ["--methods", "greedy", "majority", "best_of_n", "step_beam", "mcts"]
    assert main([*line, *methods, "--file", str(_problems(tmp_path, 2))]) == 0
    first = (folder / "part-0.jsonl").read_bytes()
    assert main([*line, *methods, "--file", str(_problems(tmp_path, 4))]) == 0
    assert (folder / "part-0.jsonl").read_bytes().startswith(first)

    written = json.loads(figures.read_text())
    assert written == json.loads((folder / "evaluation.json").read_text())
    assert written["all/problems"] == 4
    assert written["all/greedy/trajectories"] == 1
    assert written["all/majority/tokens"] >= written["all/mcts/tokens"]
    assert written["all/mcts/at_6/share"] == written["all/mcts/share"]
    records = [json.loads(line) for line in (folder / "attempts.jsonl").read_text().splitlines()]
    assert [record["problem"] for record in records] == [f"sums/{number}" for number in range(4)]
    document = (folder / "evaluation.md").read_text()
    assert "(plots/trajectories.png)" in document
    assert (folder / "plots" / "trajectories.png").read_bytes().startswith(b"\x89PNG")
    assert "| step_beam " in capsys.readouterr().out

    assert main([*line, "--methods", "greedy", "--file", str(_problems(tmp_path, 4))]) == 2
    assert "was measured otherwise: methods" in capsys.readouterr().err


@pytest.mark.slow
def test_without_the_key_the_command_names_the_option(
    address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["evaluate", "--url", address, "--file", str(_problems(tmp_path, 1)), "--trajectories", "2"]
    assert main(line) == 2
    assert "--api-key-file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--problems 0", "--problems must be at least 1, not 0"),
        ("--concurrency -1", "--concurrency must be at least 1"),
        ("--ppm folder", "--ppm needs --policy"),
        ("--url http://localhost:1 --policy folder", "a server has models of its own"),
        ("--url http://127.0.0.1:1 --file {file}", "start the server with `python -m server`"),
        ("--file nowhere.json", "nowhere.json"),
        ("--policy nowhere --file {file}", "nowhere"),
        ("--dataset ./nowhere", "nowhere"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(
    line: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *line.format(file=_problems(tmp_path, 1)).split()]) == 2
    errors = capsys.readouterr().err
    assert expected in errors
    assert errors.count("\n") == 1


@pytest.mark.slow
def test_methods_that_need_a_ppm_are_refused_without_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = ROOT / "server" / "bundle" / "policy"
    line = ["evaluate", "--policy", str(policy), "--file", str(_problems(tmp_path, 1)), "--methods", "mcts"]
    assert main(line) == 2
    assert "cannot measure mcts: there is no PPM; choose from greedy" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_bundled_models_solve_alike_here_and_behind_a_url(tmp_path: Path) -> None:
    line = ["evaluate", "--families", "gcd", "--problems", "3", "--trajectories", "3", "--candidates", "4"]
    methods = ["--methods", "greedy", "mcts"]
    here, there = tmp_path / "here.json", tmp_path / "there.json"
    assert main([*line, *methods, "--json", str(here), "--processes", "1", "--concurrency", "1"]) == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "server", "--port", str(port), "--drain-s", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        assert server.stdout is not None
        try:
            assert server.stdout.readline().startswith("Serving on")
            url = f"http://127.0.0.1:{port}"
            assert main([*line, *methods, "--json", str(there), "--concurrency", "1", "--url", url]) == 0
        finally:
            server.terminate()
    local, served = json.loads(here.read_text()), json.loads(there.read_text())
    for name in ("all/mcts/share", "all/mcts/tokens", "all/greedy/share", "all/mcts/at_2/share", "all/mcts/code_steps"):
        assert served[name] == local[name], name
