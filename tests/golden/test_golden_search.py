"""Golden searches: trees that each strategy grows, and a recorded search with the tree that a replay makes of it."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.golden.golden_files import FOLDER, check, check_json
from tests.golden.service import SEARCHES, fake_service, run_search

ROOT = Path(__file__).parents[2]
RECORDS = FOLDER / "replay"
"""`record.jsonl` is compared too; `parallel_record.jsonl`, of 3 rollouts in flight, is only replayed."""
RECORDED = {
    "problem": "3+4+5+6",
    "trajectories": 8,
    "seed": 5,
    "search": {"parallel_rollouts": 1, "candidates": 3, "stop_when_decided": False},
}


@pytest.mark.parametrize("name", SEARCHES)
async def test_search_grows_the_golden_tree(name: str) -> None:
    result, events = await run_search(name)
    check_json(f"search/{name}.json", {**result, "events": events})


def test_search_leaves_the_golden_record(tmp_path: Path) -> None:
    async def solve() -> httpx.Response:
        async with fake_service(settings={"record_folder": tmp_path}) as service:
            return await service.client.post("/solve", json=RECORDED)

    response = asyncio.run(solve())
    (path,) = tmp_path.iterdir()
    assert path.name == f"{response.json()['id']}.jsonl"
    first, *lines = path.read_text(encoding="ascii").splitlines()
    beginning = json.loads(first)
    assert 100 < beginning["budget"]["seconds"] <= 120
    beginning["budget"]["seconds"] = 120.0  # what was left of it when the search began
    check("replay/record.jsonl", "".join(f"{line}\n" for line in (json.dumps(beginning), *lines)))


@pytest.mark.parametrize("name", ["record", "parallel_record"])
def test_record_is_replayed_to_the_golden_tree(name: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree.json"
    process = subprocess.run(
        [sys.executable, "-m", "server.replay", str(RECORDS / f"{name}.jsonl"), "--tree", str(tree)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (process.returncode, process.stderr) == (0, "")
    check(f"replay/{name}_summary.txt", process.stdout)
    check(f"replay/{name}_tree.json", tree.read_text(encoding="utf-8"))
