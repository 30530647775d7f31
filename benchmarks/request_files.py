"""Request files: the modules of this repository that one `POST /solve` executes on the torch engine.

    python benchmarks/request_files.py [--json PATH] [--list]

Starts `python -m server` on the bundled models under a profiler and solves one problem to warm up. Then records the
file of every function that is called while a second problem is solved. Worker processes (the answer checker's, the
sandbox's steps) are not seen. The sandbox's own files are counted separately. The count is the number of files that a
reader has to open to follow a request.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

# Python searches `benchmarks/` first, and finds a script named like the sandbox package there.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.steps.report import Target, show, write

ROOT = Path(__file__).resolve().parent.parent
TARGETS = (Target(name="files", words="files of ours outside sandbox/ that one /solve executes", most=40),)
PROBLEM = {
    "problem": "Determine the value of y that satisfies: 85 - 83*y = -6389",
    "trajectories": 8,
    "search": {"stop_when_decided": False},
}

_PROFILED = """
import os, signal, sys, threading

seen = set()
recording = False

def profile(frame, event, argument):
    if recording and event == "call":
        seen.add(frame.f_code.co_filename)

def switch(number, frame):
    global recording
    recording = not recording
    if not recording:
        with open(sys.argv[1], "w") as file:
            file.write("\\n".join(seen))

signal.signal(signal.SIGUSR1, switch)
threading.setprofile(profile)
sys.setprofile(profile)
from server.__main__ import main
main(["--port", "0"])
"""


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description="files of ours that one request executes")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--list", action="store_true", help="also print the files")
    arguments = parser.parse_args()
    files = executed_files()
    apart = [name for name in files if name.startswith("sandbox/")]
    others = [name for name in files if name not in apart]
    if arguments.list:
        print("\n".join(others))
    figures: dict[str, float] = {"files": len(others), "sandbox_files": len(apart)}
    show(figures, TARGETS)
    if arguments.json is not None:
        write(arguments.json, figures)


def executed_files() -> list[str]:
    """The executed files, as sorted paths from the repository's root."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder, "files")
        command = [sys.executable, "-c", _PROFILED, str(written)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "RSTAR_ENGINE": "torch"}
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                url = server.stdout.readline().split()[2].rstrip(";")
                with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
                    client.post("/solve", json=PROBLEM).raise_for_status()
                    server.send_signal(signal.SIGUSR1)
                    time.sleep(1)
                    client.post("/solve", json={**PROBLEM, "seed": 1}).raise_for_status()
                    server.send_signal(signal.SIGUSR1)
                    while not written.exists():
                        time.sleep(0.1)
            finally:
                server.send_signal(signal.SIGTERM)
        paths = [Path(name) for name in written.read_text(encoding="utf-8").splitlines()]
    ours = ("search", "server", "sandbox", "training")
    inside = [path.relative_to(ROOT) for path in paths if path.is_relative_to(ROOT)]
    return sorted(path.as_posix() for path in inside if path.parts[0] in ours)


if __name__ == "__main__":
    main()
