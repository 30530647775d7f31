"""Exceptions of the search.

    SearchError
    ├── BrokenPart          a model, runner or judge broke its contract
    ├── TreeFormatError     a saved tree cannot be read
    ├── RecordFormatError   a recorded search cannot be read
    ├── ReplayMismatch      this search asks something else than the recorded one did
    └── RecordedFailure     stands for what a part raised in the recorded search

`RecordEnds` (tape) ends a replay from within and does not leave `search`.
`PathTooLong` (protocols) is not among them: expansion turns it into an outcome.
"""


class SearchError(Exception):
    """The search cannot go on."""


class BrokenPart(SearchError):
    """A part returned what its Protocol rules out."""


class TreeFormatError(SearchError):
    """A saved tree is of another version, or damaged."""


class RecordFormatError(SearchError):
    """A recorded search is of another version, or damaged."""


class ReplayMismatch(SearchError):
    """The search does not fit the record; the message names the first call that differs."""


class RecordedFailure(SearchError):
    """A part raised this in the recorded search: `Type: message`."""
