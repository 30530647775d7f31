"""Boxed: finds the answer inside the last \\boxed{} of a text. Never reads what the answer means."""

import re

_BOX = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z])\s*")
_UNBRACED = re.compile(r"[^\s{}$\\]+")


def extract_boxed(text: str) -> str | None:
    """The content of the last box, stripped; None without a box, or when that box is empty or never closed.

    A box without braces, `\\boxed 5`, holds what follows up to the next space. A box around a box counts as one: the
    inner content is the answer.
    """
    boxes = list(_BOX.finditer(text))
    if not boxes:
        return None
    start = boxes[-1].end()
    if text[start : start + 1] == "{":
        end = _closing_brace(text, start)
        content = text[start + 1 : end] if end is not None else ""
    else:
        unbraced = _UNBRACED.match(text, start)
        content = unbraced[0].rstrip(".,;") if unbraced else ""
    return content.strip() or None


def _closing_brace(text: str, start: int) -> int | None:
    """Position of the brace that closes the one at `start`; an escaped character is neither."""
    depth = 0
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        else:
            depth += (character == "{") - (character == "}")
            if depth == 0:
                return position
        position += 1
    return None
