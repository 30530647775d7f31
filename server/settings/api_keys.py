"""API keys: reads the operator's list and finds the owner of a client's key. Keeps SHA-256 digests, never a key.

A key without a name gets one from its place in the list: `key-1` for the first. Logs and quotas use the names.
"""

import re
from collections.abc import Mapping
from hashlib import sha256

MIN_KEY_CHARS = 16
"""Drawn at random, as few characters cannot be guessed over a network."""

_NAMED = re.compile(r"([A-Za-z0-9_.-]{1,64})=([^=].*)")
"""Base64 ends in =, so a = with nothing else behind it belongs to the key."""
_KEY = re.compile(r"[!-~]+")
"""What can be sent in a header."""


class ApiKeys:
    """The keys of one server."""

    def __init__(self, owners: Mapping[bytes, str]) -> None:
        self._owners = owners

    def owner_of(self, shown: str) -> str | None:
        """The name of a key; None if it is not one of ours.

        A key is looked up by its digest, so the time of the look-up says nothing of the keys.
        """
        return self._owners.get(_digest(shown))


def read_api_keys(text: str) -> ApiKeys:
    """From items between commas or line ends, each `key` or `name=key`. Raises ValueError, which quotes no key."""
    owners: dict[bytes, str] = {}
    items = [item.strip() for item in re.split(r"[,\r\n]", text)]
    for position, item in enumerate((item for item in items if item), start=1):
        named = _NAMED.fullmatch(item)
        name, key = (named[1], named[2]) if named else (f"key-{position}", item)
        if not _KEY.fullmatch(key):
            raise ValueError(f"API key {position} holds a character that no header can carry")
        if len(key) < MIN_KEY_CHARS:
            raise ValueError(f"API key {position} has {len(key)} characters; at least {MIN_KEY_CHARS} are needed")
        if name in owners.values():
            raise ValueError(f"two API keys have the name {name}")
        if (earlier := owners.setdefault(_digest(key), name)) != name:
            raise ValueError(f"{earlier} and {name} are the same API key")
    if not owners:
        raise ValueError("there is no API key in it")
    return ApiKeys(owners)


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
