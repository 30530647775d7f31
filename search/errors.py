"""Exceptions of the search.

    SearchError
    ├── BrokenPart        a model, runner or judge broke its contract
    └── TreeFormatError   a saved tree cannot be read

`PathTooLong` (protocols) is not among them: expansion turns it into an outcome.
"""


class SearchError(Exception):
    """The search cannot go on."""


class BrokenPart(SearchError):
    """A part returned what its Protocol rules out."""


class TreeFormatError(SearchError):
    """A saved tree is of another version, or damaged."""
