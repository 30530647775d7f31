"""Access log: one entry per request, with what an operator asks for and nothing that a client wrote in private."""

import logging

import pytest
from pydantic import SecretStr

from server.parts.fakes import fake_parts, opening, serve
from server.settings.settings import Settings

KEY = "0123456789abcdef"
SECRET = "123456789+987654321"


@pytest.fixture
def entries(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="server")
    return caplog


def _access(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "server.http.access_log"]


async def test_a_request_has_one_entry_with_its_client_and_duration(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(f"alice={KEY}"))) as served:
        body = {"problem": "1+2", "trajectories": 1, "stream": True}
        await served.client.post("/solve?key=1", json=body, headers={"x-api-key": KEY})
    (record,) = _access(entries)
    assert record.levelno == logging.INFO
    fields = vars(record)
    told = [fields[name] for name in ("method", "path", "route", "status", "client")]
    assert told == ["POST", "/solve", "/solve", 200, "alice"]
    assert 0 <= fields["duration_s"] < 600
    assert record.getMessage().startswith("POST /solve 200 ")


async def test_the_path_is_told_beside_its_template(entries: pytest.LogCaptureFixture) -> None:
    async with serve() as served:
        await served.client.post("/solve/some-search/cancel")
        await served.client.get("/" + "n" * 500)
    cancelled, unknown = (vars(record) for record in _access(entries))
    assert (cancelled["path"], cancelled["route"]) == ("/solve/some-search/cancel", "/solve/{search_id}/cancel")
    assert (len(unknown["path"]), unknown["route"], unknown["status"]) == (200, None, 404)


async def test_a_refused_client_is_known_by_its_address(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(KEY))) as served:
        await served.client.post("/solve")
    (record,) = _access(entries)
    assert (vars(record)["status"], vars(record)["client"]) == (401, "127.0.0.1")


async def test_a_failure_of_the_server_is_logged_as_the_500_it_was(entries: pytest.LogCaptureFixture) -> None:
    def prompt_tokens(problem: str) -> int:
        raise ZeroDivisionError

    parts = fake_parts()
    object.__setattr__(parts, "prompt_tokens", prompt_tokens)
    async with serve(opening(parts)) as served:
        await served.client.post("/solve", json={"problem": "1+2"})
    assert [vars(record)["status"] for record in _access(entries)] == [500]


async def test_probes_are_logged_at_debug_unless_they_fail(entries: pytest.LogCaptureFixture) -> None:
    async with serve() as served:
        for path in ("/healthz", "/readyz", "/metrics"):
            await served.client.get(path)
        await served.client.post("/healthz")
    assert [record.levelno for record in _access(entries)] == [logging.DEBUG] * 3 + [logging.INFO]


async def test_the_access_log_can_be_turned_off(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(access_log=False)) as served:
        await served.client.get("/version")
    assert _access(entries) == []


async def test_neither_problem_nor_key_nor_query_is_logged_above_debug(entries: pytest.LogCaptureFixture) -> None:
    async with serve(settings=Settings(api_keys=SecretStr(KEY))) as served:
        for body in ({"problem": SECRET, "trajectories": 1}, {"problem": SECRET, "depth": SECRET}):
            await served.client.post(f"/solve?q={SECRET}", json=body, headers={"authorization": f"Bearer {KEY}"})
        await served.client.post("/solve", content=SECRET, headers={"authorization": "Bearer wrong-but-private"})
    told = " ".join(str(vars(record)) for record in entries.records if record.levelno > logging.DEBUG)
    assert told
    for private in (SECRET, "123456789", KEY, "wrong-but-private"):
        assert private not in told
