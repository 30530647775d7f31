"""Answers in JSON, read with suspicion: what is not of the kind expected is a mismatch, told with the address."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from server.engines.remote.errors import RemoteMismatch

JsonObject: TypeAlias = Mapping[str, object]


def as_object(value: object) -> JsonObject | None:
    """The value, where it is an object."""
    return cast(JsonObject, value) if isinstance(value, dict) else None


def as_list(value: object) -> list[object] | None:
    """The value, where it is a list."""
    return cast(list[object], value) if isinstance(value, list) else None


def objects(answer: JsonObject, name: str, *, where: str) -> list[JsonObject]:
    """The list of objects in a field of an answer. Raises `RemoteMismatch`."""
    items = as_list(answer.get(name))
    found = [as_object(item) for item in items or []]
    if items is None or None in found:
        raise RemoteMismatch(f"{where}: expected a list of objects as {name}; is it a vLLM server?")
    return [item for item in found if item is not None]


def in_order(items: Sequence[JsonObject], *, where: str, expected: int) -> list[JsonObject]:
    """The items in order of their field `index`. Raises `RemoteMismatch` where they are not 0 to `expected` - 1."""
    by_index = {item.get("index"): item for item in items}
    if len(items) != expected or set(by_index) != set(range(expected)):
        raise RemoteMismatch(f"{where}: expected results 0 to {expected - 1}, got {sorted(map(str, by_index))}")
    return [by_index[index] for index in range(expected)]


def numbers(value: object, *, where: str, what: str) -> list[float]:
    """A list of numbers. Raises `RemoteMismatch`."""
    items = as_list(value)
    found = [item for item in items or [] if isinstance(item, int | float)]
    if items is None or len(found) != len(items):
        raise RemoteMismatch(f"{where}: expected numbers as {what}, got {str(value)[:80]}; it needs vLLM 0.32 or later")
    return [float(item) for item in found]
