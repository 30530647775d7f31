"""Scanner: a position in a text, the steps forward from it, and the limit on nesting."""

import re
from collections.abc import Generator
from contextlib import contextmanager

MAX_DEPTH = 30
"""Deepest nesting that is read: far above real answers, far below Python's recursion limit."""


class Unreadable(Exception):
    """The grammar does not know this text."""


class Scanner:
    """Reads a respelled text from left to right; spaces are skipped before each token."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self._depth = 0

    def at(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The match of `pattern` at the next token, which stays unread."""
        self._skip_spaces()
        return pattern.match(self.text, self.position)

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """As `at`, and reads it."""
        match = self.at(pattern)
        if match:
            self.position = match.end()
        return match

    def peek(self) -> str:
        """The next character that is not a space; empty at the end."""
        self._skip_spaces()
        return self.text[self.position : self.position + 1]

    def take_any(self, characters: str) -> str:
        """Reads the next character if it is one of these; empty if not."""
        character = self.peek()
        if not character or character not in characters:
            return ""
        self.position += 1
        return character

    def expect(self, characters: str) -> str:
        """Reads one of these characters; anything else makes the text unreadable."""
        character = self.take_any(characters)
        if not character:
            raise Unreadable(f"expected one of {characters} at character {self.position}")
        return character

    @contextmanager
    def nested(self) -> Generator[None]:
        """One level of nesting deeper. After `Unreadable` the depth no longer counts: nothing reads on."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        yield
        self._depth -= 1

    def _skip_spaces(self) -> None:
        while self.text[self.position : self.position + 1].isspace():
            self.position += 1
