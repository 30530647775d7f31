"""Records: a served search is run again from its file; a failure to write costs no search."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from server.replay import main
from server.settings.settings import Settings
from server.solving.records import RecordWriter
from tests.server.serving import serve

BODY = {"problem": "3+4+5", "trajectories": 6, "return_tree": True}


async def _solve(settings: Settings | None = None) -> httpx.Response:
    async with serve(settings=settings) as served:
        return await served.client.post("/solve", json=BODY)


def test_a_record_replays_to_the_same_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    response = asyncio.run(_solve(Settings(record_folder=tmp_path))).json()
    (record,) = tmp_path.glob("*.jsonl")
    assert record.stem == response["id"]
    tree = tmp_path / "tree.json"
    assert main([str(record), "--tree", str(tree)]) == 0
    assert f"answer: {response['answer']}" in capsys.readouterr().out
    nodes = json.loads(tree.read_text())["nodes"]
    assert len(nodes) == len(response["tree"])
    assert [node["visits"] for node in nodes] == [node["visits"] for node in response["tree"]]


def test_a_record_that_was_changed_is_a_mismatch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(_solve(Settings(record_folder=tmp_path)))
    (record,) = tmp_path.glob("*.jsonl")
    lines = record.read_text().splitlines(keepends=True)
    record.write_text("".join(lines[:3] + lines[4:]))
    assert main([str(record)]) in (1, 2)
    assert capsys.readouterr().err.startswith(f"rstar: {record}: ")


def test_what_is_no_record_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text('{"kind": "shopping"}\n')
    assert main([str(path)]) == 2
    assert main([str(tmp_path / "missing.jsonl")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert all(line.startswith("rstar: ") for line in errors)


def test_a_missing_folder_costs_the_record_not_the_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    settings = Settings(record_folder=folder)
    folder.rmdir()
    assert asyncio.run(_solve(settings)).status_code == 200
    assert "is not recorded" in caplog.text


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert asyncio.run(_solve()).status_code == 200
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="directory"):
        Settings(record_folder=Path("/nowhere/at/all"))


@pytest.mark.parametrize("length", [1, 1 << 20])
def test_a_full_disk_costs_the_record_not_the_search(length: int, caplog: pytest.LogCaptureFixture) -> None:
    file = Path("/dev/full").open("w", encoding="ascii")  # noqa: SIM115  # the writer closes it; it takes no byte
    writer = RecordWriter(file)
    writer.write("x" * length)
    writer.write("more")
    writer.close()
    writer.close()
    assert file.closed
    assert "the record ends early" in caplog.text
