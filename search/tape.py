"""The tape: what listens to a search while it is recorded, and speaks in place of its parts when it is replayed.

A search makes its calls within **operations** (one expansion, one comparison of answers, one trajectory of a baseline),
each with a name that is the same in every run. Many operations are in flight at once; their results are applied one at
a time. So a search is known from what its parts answered within each operation, and from the order of applying.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from search.budget import Budget
from search.config import SearchConfig
from search.errors import SearchError
from search.outcomes import StopReason
from search.tree import Tree

if TYPE_CHECKING:
    from search.parts import Parts


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What a search was asked to do."""

    problem: str
    config: SearchConfig
    budget: Budget
    seed: int
    has_scorer: bool
    has_judge: bool
    tree: Tree
    """As it was before, empty for a new search; changes as the search goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a search ended."""

    applied: int
    """Results in the tree at the end."""
    stop_reason: StopReason | None
    """None where an exception ended it."""
    error: str | None = None
    """`Type: message` of that exception."""


class RecordEnds(SearchError):
    """The recorded search was stopped from outside at this point: by deadline, cancellation or a crash."""

    def __init__(self, reason: StopReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Tape(Protocol):
    """Records one search, or plays one back. `search.record` and `search.replay` have one each."""

    def begin(self, beginning: Beginning) -> None:
        """The search begins."""
        ...

    def scoped(self, parts: "Parts", scope: str) -> "Parts":
        """The parts for calls made in `scope`: an operation's name, or that name, a slash, and more."""
        ...

    def next_operation(self, in_flight: Collection[str], *, applied: int) -> str | None:
        """Which operation must be applied next; None: whichever is first. Raises `RecordEnds`."""
        ...

    def applied(self, operation: str) -> None:
        """The result of the operation is about to be applied, or its failure to be raised."""
        ...

    def check_end(self, *, applied: int) -> None:
        """Nothing is in the tree beyond result number `applied`: raise `RecordEnds` if nothing more ever was."""
        ...

    def end(self, ending: Ending) -> None:
        """The search is over."""
        ...
