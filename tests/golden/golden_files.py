"""Golden files: output that a user sees, stored as text in this folder and compared as a whole.

A mismatch shows a diff. If the change of behaviour is intended, write the files again and read the diff in git:

    GOLDEN=write python -m pytest tests/golden -m 'slow or not slow'

Only `placeholders` replaces values that differ from run to run, or from machine to machine.
"""

import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import pytest

FOLDER = Path(__file__).parent
LINE_CHARS = 100
"""A JSON value that fits into so many characters gets one line."""

_SEARCH_ID = re.compile(r"((?:chatcmpl-)?golden[a-z-]*)-[0-9a-f]{32}")
_TREE_ID = re.compile(r"[0-9a-f]{24}")
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")


def check(name: str, text: str) -> None:
    """Compare with the golden file of that name, or write it where the environment says GOLDEN=write."""
    path = FOLDER / name
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    golden = path.read_text(encoding="utf-8")
    if text != golden:
        lines = difflib.unified_diff(golden.splitlines(), text.splitlines(), f"golden {name}", "now", lineterm="")
        pytest.fail("\n".join(lines), pytrace=False)


def check_json(name: str, value: object) -> None:
    """The same for a JSON value; the order of keys counts."""
    check(name, as_text(placeholders(value)) + "\n")


def check_lines(name: str, lines: Iterable[str]) -> None:
    """The same for lines."""
    check(name, "".join(f"{line}\n" for line in lines))


def placeholders(value: object, key: str = "") -> object:
    """The value without what is different each time: ids, hashes, times, the version, a float's last digits."""
    match value:
        case dict():
            items = cast("dict[str, object]", value).items()
            return {name: placeholders(item, "timing_s" if key == "timing_s" else name) for name, item in items}
        case list():
            return [placeholders(item, key) for item in cast("list[object]", value)]
        case int() if key == "created":
            return "<seconds since 1970>"
        case float():
            return "<seconds>" if key == "timing_s" else round(value, 9)
        case str() if _SEARCH_ID.fullmatch(value):
            return _SEARCH_ID.sub(r"\1-<unique>", value)
        case str() if key == "tree_id" and _TREE_ID.fullmatch(value):
            return "<tree id>"
        case str() if key == "version" and _VERSION.fullmatch(value):
            return "<version>"
        case _:
            return value


def as_text(value: object, indent: str = "") -> str:
    """JSON for people: one line for what is short, else one line an item."""
    short = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(short) <= LINE_CHARS or not isinstance(value, dict | list):
        return short
    deeper = indent + "  "
    if isinstance(value, dict):
        items = cast("Mapping[str, object]", value).items()
        lines = [f"{deeper}{json.dumps(name)}: {as_text(item, deeper)}" for name, item in items]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    lines = [f"{deeper}{as_text(item, deeper)}" for item in cast("list[object]", value)]
    return "[\n" + ",\n".join(lines) + f"\n{indent}]"


def response_as_json(status: int, headers: Iterable[tuple[str, str]], text: str) -> dict[str, object]:
    """A response as golden files hold it; the events of a stream one by one."""
    kept = dict(sorted((name, value) for name, value in headers if name not in {"content-length", "date"}))
    kind = kept.get("content-type", "")
    body: object = text
    if "json" in kind:
        body = json.loads(text)
    elif kind.startswith("text/event-stream"):
        body = events_as_json(text)
    return {"status": status, "headers": kept, "body": body}


def events_as_json(text: str) -> list[object]:
    """The frames of an event stream: comments as they are, of events each field."""
    assert text.endswith("\n\n")
    return [_frame_as_json(frame) for frame in text.removesuffix("\n\n").split("\n\n")]


def _frame_as_json(frame: str) -> object:
    if frame.startswith(":"):
        return frame
    fields = dict(line.split(": ", 1) for line in frame.split("\n"))
    return {name: _value_as_json(value) if name == "data" else value for name, value in fields.items()}


def _value_as_json(value: str) -> object:
    return value if value == "[DONE]" else json.loads(value)


def metric_families(page: str) -> list[str]:
    """A line for each family of a scrape: name, type, and the values that each label has."""
    types = re.findall(r"^# TYPE (\S+) (\S+)$", page, re.MULTILINE)
    labels: dict[str, dict[str, list[str]]] = {name: {} for name, _ in types}
    family = ""
    for line in page.splitlines():
        if line.startswith("# TYPE "):
            family = line.split()[2]
        elif not line.startswith("#"):
            for label, value in re.findall(r'(\w+)="([^"]*)"', line):
                values = labels[family].setdefault(label, [])
                if value not in values:
                    values.append(value)
    return sorted(f"{name} {kind}{_labels_as_text(labels[name])}" for name, kind in types)


def _labels_as_text(labels: Mapping[str, list[str]]) -> str:
    # Of the level of confinement this machine has one; the version changes with each release.
    shown = {name: [f"<{name}>"] if name in {"level", "version"} else values for name, values in labels.items()}
    ordered = {name: values if name == "le" else sorted(values) for name, values in sorted(shown.items())}
    return "".join(f" {name}={'|'.join(values)}" for name, values in ordered.items())


def without_prose(value: object, *, are_names: bool = False) -> object:
    """An OpenAPI document without descriptions, summaries and titles, its keys in order.

    The keys under `properties` are names of fields, of which one may be `title`.
    """
    if isinstance(value, list):
        return [without_prose(item) for item in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    items = cast("dict[str, object]", value)
    prose = set[str]() if are_names else {"description", "summary", "title"}
    return {
        key: without_prose(items[key], are_names=key == "properties" and not are_names)
        for key in sorted(items.keys() - prose)
    }
