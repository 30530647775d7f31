"""Logs: the shape of lines and objects, ids of requests, and no text that can forge an entry."""

import io
import json
import logging
import warnings
from collections.abc import Generator
from contextvars import copy_context
from datetime import UTC, datetime
from typing import Literal

import pytest

from server.observability.logs import JsonLines, configure_logging
from server.observability.tracing import current_request_id, request_span

Level = Literal["debug", "info", "warning", "error"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Generator[None]:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    yield
    logging.captureWarnings(capture=False)
    root.setLevel(before[0])
    root.handlers[:] = before[1]


@pytest.fixture
def about_a_request() -> Generator[None]:
    token = current_request_id.set("request-7")
    yield
    current_request_id.reset(token)


def _configured(style: Literal["text", "json"], *, level: Level = "info") -> io.StringIO:
    stream = io.StringIO()
    configure_logging(level=level, style=style, stream=stream)
    return stream


def _object(stream: io.StringIO) -> dict[str, object]:
    (line,) = stream.getvalue().splitlines()
    return json.loads(line)


def test_a_line_has_time_level_logger_request_and_message(about_a_request: None) -> None:
    stream = _configured("text")
    logging.getLogger("server.solving.solver").info("search %s ended", "x")
    moment, rest = stream.getvalue().split(" ", 1)
    assert rest == "INFO server.solving.solver [request-7] search x ended\n"
    assert moment.endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()) < 60


def test_an_object_has_the_same_and_what_the_entry_adds(about_a_request: None) -> None:
    stream = _configured("json")
    logging.getLogger("server.access_log").info("%(status)s", {"status": 200}, extra={"status": 200, "path": "/π\n"})
    entry = _object(stream)
    moment = entry.pop("time")
    assert isinstance(moment, str)
    assert datetime.fromisoformat(moment).tzinfo == UTC
    usual = {"level": "info", "logger": "server.access_log", "message": "200", "request_id": "request-7"}
    assert entry == {**usual, "status": 200, "path": "/π\n"}


def test_an_object_names_the_trace_and_no_malformed_header() -> None:
    stream = _configured("json")

    def request() -> None:
        parent = f"00-{'1' * 32}-{'2' * 16}-01"
        with request_span("POST", "/solve", [(b"traceparent", parent.encode()), (b"tracestate", b"Malformed")]):
            logging.getLogger("server").info("up")

    copy_context().run(request)
    assert _object(stream)["trace_id"] == "1" * 32


def test_an_entry_about_no_request_names_none() -> None:
    stream = _configured("json")
    logging.getLogger("server").warning("up")
    assert set(_object(stream)) == {"time", "level", "logger", "message"}


def test_a_traceback_is_part_of_its_object() -> None:
    stream = _configured("json")
    try:
        raise ZeroDivisionError("first\nsecond")
    except ZeroDivisionError:
        logging.getLogger("server").exception("it failed")
    entry = _object(stream)
    assert (entry["level"], entry["message"]) == ("error", "it failed")
    assert "Traceback" in str(entry["exception"])
    assert str(entry["exception"]).endswith("ZeroDivisionError: first\nsecond")


def test_a_traceback_stands_indented_below_its_line() -> None:
    stream = _configured("text")
    try:
        raise ZeroDivisionError("first\n2026-01-01T00:00:00.000Z INFO server forged")
    except ZeroDivisionError:
        logging.getLogger("server").exception("it failed")
    first, *others = stream.getvalue().splitlines()
    assert first.endswith("ERROR server it failed")
    assert others[0] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in others)


@pytest.mark.parametrize("character", ["\n", "\r", "\x1b", "\x85", "\u2028"])
def test_no_message_can_begin_another_line(character: str) -> None:
    stream = _configured("text")
    logging.getLogger("server").info("/path%s2026 INFO server forged", character)
    assert len(stream.getvalue().splitlines()) == 1
    assert "\x1b" not in stream.getvalue()
    assert "/path\\" in stream.getvalue()


def test_values_that_json_lacks_are_written_as_text() -> None:
    record = logging.makeLogRecord({"name": "a", "msg": "b", "odd": {1, 2}, "surrogate": "\udcff"})
    entry = json.loads(JsonLines().format(record))
    assert (entry["odd"], entry["message"]) == ("{1, 2}", "b")


def test_less_grave_entries_are_left_out() -> None:
    stream = _configured("text", level="warning")
    logging.getLogger("server").info("no")
    logging.getLogger("server").warning("yes")
    assert "yes" in stream.getvalue()
    assert "no" not in stream.getvalue().replace("notice", "")


def test_debug_shows_all_but_the_chatter_about_connections() -> None:
    stream = _configured("text", level="debug")
    logging.getLogger("server").debug("ours")
    logging.getLogger("httpx").info("theirs")
    assert "ours" in stream.getvalue()
    assert "theirs" not in stream.getvalue()


def test_uvicorn_and_warnings_are_written_the_same_way() -> None:
    uvicorn_logger = logging.getLogger("uvicorn.error")
    uvicorn_logger.addHandler(logging.NullHandler())
    stream = _configured("json")
    uvicorn_logger.error("broken", extra={"color_message": "colourful"})
    warnings.warn("old", stacklevel=1)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["logger"], first["message"], "color_message" in first) == ("uvicorn.error", "broken", False)
    assert second["logger"] == "py.warnings"
