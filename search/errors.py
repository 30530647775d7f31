"""Exceptions of the search.

    SearchError
    ├── BrokenPart          a model, runner or judge broke its contract
    ├── TreeFormatError     a saved tree cannot be read
    ├── RecordFormatError   a recorded search cannot be read
    ├── ReplayMismatch      the search makes other calls than the recorded one
    ├── RecordedFailure     in a replay: the exception that a part raised in the recorded search
    └── RecordEnds          in a replay: the recorded search was stopped here; never leaves `search`

`PathTooLong` (protocols) is not among them: `propose` turns it into an outcome.
"""

from search.outcomes import StopReason


class SearchError(Exception):
    """The search cannot go on."""


class BrokenPart(SearchError):
    """A part returned something that its Protocol rules out."""


class TreeFormatError(SearchError):
    """A saved tree is of another version, or damaged."""


class RecordFormatError(SearchError):
    """A recorded search is of another version, or damaged."""


class ReplayMismatch(SearchError):
    """The search does not fit the record; the message names the first call that differs."""


class RecordedFailure(SearchError):
    """A part raised this in the recorded search: `Type: message`."""


class RecordEnds(SearchError):
    """The recorded search was stopped from outside at this point: by deadline, cancellation or a crash."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason
