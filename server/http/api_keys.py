"""API keys: reads the operator's list and says whose key a client has shown. Keeps digests, and prints no key."""

import hmac
import re
from dataclasses import dataclass, field
from hashlib import sha256

MIN_KEY_CHARS = 16
"""Drawn at random, as few characters cannot be guessed over a network."""

_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,64})=([^=].*)")
"""Base64 ends in =, so a = with nothing else behind it belongs to the key."""
_KEY = re.compile(r"[!-~]+")
"""What can be sent in a header."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key of the list."""

    name: str
    """For the log and for the shares of clients; `key-1` for the first of the list, where it has no name."""
    digest: bytes = field(repr=False)
    """SHA-256 of the key."""


class ApiKeys:
    """The keys of one server."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys

    def owner_of(self, shown: str) -> str | None:
        """The name of a key; None if it is not one of ours. All keys are compared, whichever it is."""
        digest = _digest(shown)
        owner = None
        for key in self._keys:
            if hmac.compare_digest(digest, key.digest):
                owner = key.name
        return owner


def read_api_keys(text: str) -> ApiKeys:
    """From items between commas or line ends, each `key` or `name=key`. Raises ValueError, which quotes no key."""
    keys: list[ApiKey] = []
    items = [item.strip() for item in re.split(r"[,\r\n]", text)]
    for position, item in enumerate((item for item in items if item), start=1):
        named = _NAMED.fullmatch(item)
        name, key = (named[1], named[2]) if named else (f"key-{position}", item)
        if not _KEY.fullmatch(key):
            raise ValueError(f"API key {position} holds a character that no header can carry")
        if len(key) < MIN_KEY_CHARS:
            raise ValueError(f"API key {position} has {len(key)} characters; at least {MIN_KEY_CHARS} are needed")
        digest = _digest(key)
        for earlier in keys:
            if earlier.name == name:
                raise ValueError(f"two API keys have the name {name}")
            if earlier.digest == digest:
                raise ValueError(f"{earlier.name} and {name} are the same API key")
        keys.append(ApiKey(name, digest))
    if not keys:
        raise ValueError("there is no API key in it")
    return ApiKeys(tuple(keys))


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
