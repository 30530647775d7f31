"""Logs: writes every entry on stderr, as a line for people or as a JSON object, with the id of its request.

Entries of uvicorn and of all other libraries look the same. A traceback is part of its entry.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

from server.observability.tracing import current_request_id, current_trace_id

_LEAST_LEVELS = {
    # At lower levels they write an entry or more for each request to an engine or a collector.
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "urllib3": logging.WARNING,
    # It warns of every malformed header that a client sends.
    "opentelemetry.trace": logging.ERROR,
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
"""The attributes of every record. All others came as `extra`."""


def configure_logging(
    *, level: Literal["debug", "info", "warning", "error"], style: Literal["text", "json"], stream: TextIO | None = None
) -> None:
    """Write all logs this way from now on. Replaces an earlier configuration."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if style == "json" else TextLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name, least in _LEAST_LEVELS.items():
        logging.getLogger(name).setLevel(least)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


class TextLines(logging.Formatter):
    """`2026-01-31T12:00:00.123Z INFO server.solving.solver [request id] message`, with an indented traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        """One line if there is no traceback. Nothing in a message can begin another entry."""
        request_id = current_request_id.get()
        about = "" if request_id is None else f" [{request_id}]"
        line = f"{_time(record)} {record.levelname} {record.name}{about} {_in_one_line(record.getMessage())}"
        return "\n  ".join([line, *_traceback(self, record).splitlines()])


class JsonLines(logging.Formatter):
    """One object per line: time, level, logger, message, request_id, trace_id, extra values and the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Values that JSON lacks are written as text."""
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": current_request_id.get(),
            "trace_id": current_trace_id(),
            **_extra(record),
            "exception": _traceback(self, record) or None,
        }
        present = {name: value for name, value in entry.items() if value is not None}
        return json.dumps(present, ensure_ascii=True, default=str)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _extra(record: logging.LogRecord) -> Mapping[str, object]:
    return {name: value for name, value in vars(record).items() if name not in _USUAL}


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    parts: list[str] = []
    if record.exc_info and record.exc_info[0] is not None:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts)


def _in_one_line(message: str) -> str:
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], message)
