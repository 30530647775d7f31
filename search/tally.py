"""The tally: votes counted trajectory by trajectory, in the order of their numbers, and who leads since when.

An answer is counted once its class is known; until then it waits, and all later ones with it, so that the count never
depends on which comparison is faster. Asks the equality checker only in `ask`. Never changes the tree.
"""

from collections import deque
from typing import NamedTuple

from search.answers import Ballot, Standing, ballot_of, ballots, count_votes
from search.config import SearchConfig
from search.equivalence import AnswerClasses, ClassId
from search.protocols import AnswerEquality
from search.tree import Node, Tree


class _Finished(NamedTuple):
    ballot: Ballot | None
    """None where the trajectory failed."""
    number: int
    """Trajectories in the tree when it had been added."""


class Tally:
    """The count of one run."""

    def __init__(self, tree: Tree, config: SearchConfig) -> None:
        self._tree = tree
        self._config = config
        self._classes = AnswerClasses()
        self._cast: list[Ballot] = []
        self._leader: ClassId | None = None
        self.standing = Standing()
        self.counted = 0
        """Trajectories counted, failed ones included."""
        self.leads_since: int | None = None
        """Trajectories counted when the leading answer took the lead for good; None without one."""
        self._waiting = deque(
            _Finished(ballot, _number(tree.nodes[ballot.node_id], position))
            for position, ballot in enumerate(ballots(tree))
        )
        if tree.trajectories > len(self._waiting):
            # Those that failed have no ballots; the last of them need not come before the last ballot.
            self._waiting.append(_Finished(None, tree.trajectories))

    @property
    def waiting(self) -> int:
        """Trajectories not counted yet."""
        return self._tree.trajectories - self.counted

    @property
    def is_complete(self) -> bool:
        """Whether every trajectory is counted."""
        return not self._waiting

    @property
    def has_unknown(self) -> bool:
        """Whether two answers may be one, for all that could be checked."""
        return self._classes.has_unknown

    @property
    def votes_waiting(self) -> int:
        """Of the trajectories not counted yet."""
        return sum(0 if finished.ballot is None else finished.ballot.votes for finished in self._waiting)

    @property
    def ballots_cast(self) -> int:
        """Counted trajectories that state an answer."""
        return len(self._cast)

    @property
    def most_votes_cast(self) -> int:
        """Of any one counted trajectory."""
        return max((ballot.votes for ballot in self._cast), default=0)

    def add(self, end: Node) -> None:
        """A trajectory was backed up that ended at `end`."""
        self._waiting.append(_Finished(ballot_of(self._tree, end), self._tree.trajectories))

    def count_next(self) -> bool:
        """Count the next trajectory; False where there is none, or its answer has to be compared first."""
        if not self._waiting:
            return False
        ballot = self._waiting[0].ballot
        if ballot is not None and self._classes.place(ballot.answer) is not None:
            return False
        self._count(self._waiting.popleft())
        return True

    async def ask(self, equality: AnswerEquality) -> None:
        """Compare the next answer with others until it can be counted."""
        ballot = self._waiting[0].ballot
        assert ballot is not None
        while (pair := self._classes.place(ballot.answer)) is not None:
            self._classes.learn(pair, await equality.same(*pair))

    def count_the_rest(self) -> None:
        """Count all that wait, asking nobody: what could not be compared counts as different."""
        while self._waiting:
            finished = self._waiting.popleft()
            if finished.ballot is not None:
                self._classes.place_as_known(finished.ballot.answer)
            self._count(finished)

    def _count(self, finished: _Finished) -> None:
        self.counted = finished.number
        if finished.ballot is not None:
            self._cast.append(finished.ballot)
        self.standing = count_votes(
            self._cast,
            self._classes.__getitem__,
            failures=self.counted - len(self._cast),
            selection=self._config.answer_selection,
            top_k=self._config.top_k,
        )
        answer = self.standing.answer
        leader = None if answer is None else self._classes[answer]
        if leader != self._leader:
            self._leader, self.leads_since = leader, self.counted


def _number(end: Node, position: int) -> int:
    return (position if end.ends_trajectory is None else end.ends_trajectory) + 1
