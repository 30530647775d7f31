"""Golden server: `python -m server` on the bundled models, what it announces, its headers and its metrics."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.golden.golden_files import check_json, check_lines, metric_families, without_prose

ROOT = Path(__file__).parents[2]
BODY = {"problem": "1+2", "trajectories": 1, "search": {"strategy": "greedy", "depth": 3}}


@pytest.fixture(scope="module")
def url() -> Generator[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSTAR_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "server", "--port", "0", "--log-level", "error"],
        cwd=ROOT,
        env={**kept, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        announced = re.fullmatch(r"Serving on (http://127\.0\.0\.1:\d+); .*\n", process.stdout.readline())
        assert announced, process.stderr and process.stderr.read()
        yield announced[1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        process.communicate()


def _headers(response: httpx.Response) -> dict[str, str]:
    kept = {**response.headers, "date": "<date>", "x-request-id": "<id>"}
    if "content-length" in kept:
        kept["content-length"] = "<length>"
    return dict(sorted(kept.items()))


@pytest.mark.slow
def test_responses_have_the_golden_headers(url: str) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        responses = {
            "answer": client.post("/solve", json=BODY),
            "stream": client.post("/solve", json={**BODY, "stream": True}),
            "invalid": client.post("/solve", json={}),
            "too_large": client.post("/solve", content=b" " * 70_000, headers={"content-type": "application/json"}),
            "not_found": client.get("/nope"),
            "readyz": client.get("/readyz"),
            "metrics": client.get("/metrics"),
        }
    found = {name: {"status": one.status_code, "headers": _headers(one)} for name, one in responses.items()}
    check_json("server/headers.json", found)


@pytest.mark.slow
def test_server_has_the_golden_metrics(url: str) -> None:
    assert httpx.post(f"{url}/solve", json=BODY, timeout=60).status_code == 200
    check_lines("server/metrics.txt", metric_families(httpx.get(f"{url}/metrics", timeout=60).text))


@pytest.mark.slow
def test_server_describes_itself_as_the_fake_one_does(url: str) -> None:
    document = httpx.get(f"{url}/openapi.json", timeout=60).json()
    document["info"]["version"] = "<version>"
    check_json("openapi.json", without_prose(document))
