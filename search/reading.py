"""Reading: typed values out of parsed JSON. What is of another kind raises ValueError, saying what was found."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar, cast

Read = TypeVar("Read")
Member = TypeVar("Member", bound=StrEnum)


def optional(value: object, read: Callable[[object], Read]) -> Read | None:
    """None, or what `read` makes of the value."""
    return None if value is None else read(value)


def member(value: object, kind: type[Member]) -> Member:
    """A member of a closed set, by its value."""
    return kind(text(value))


def text(value: object) -> str:
    """A string."""
    if isinstance(value, str):
        return value
    raise ValueError(f"expected a string, found {value!r}")


def boolean(value: object) -> bool:
    """True or false; no number."""
    if isinstance(value, bool):
        return value
    raise ValueError(f"expected true or false, found {value!r}")


def integer(value: object) -> int:
    """A whole number."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError(f"expected an integer, found {value!r}")


def number(value: object) -> float:
    """A number, as a float: JSON written elsewhere may have turned 1.0 into 1."""
    return value if isinstance(value, float) else float(integer(value))


def items(value: object) -> list[object]:
    """A list."""
    if isinstance(value, list):
        return cast("list[object]", value)
    raise ValueError(f"expected a list, found {value!r}")


def mapping(value: object) -> Mapping[str, object]:
    """An object."""
    if isinstance(value, dict):
        return cast("Mapping[str, object]", value)
    raise ValueError(f"expected an object, found {value!r}")
