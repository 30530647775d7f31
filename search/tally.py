"""The tally: counts votes trajectory by trajectory, in the order of their numbers, and decides when the lead is final.

An answer is counted once its class is known; until then it waits, and all later ones with it, so that the count never
depends on which comparison is faster. Only `compare` calls the equality checker. Never changes the tree.
"""

from collections import deque
from typing import NamedTuple, assert_never

from search.answers import AnswerClasses, Ballot, ClassId, Standing, ballot_of, ballots, count_votes
from search.config import SearchConfig, Selection, Strategy
from search.outcomes import Verdict
from search.protocols import AnswerEquality
from search.tree import Node, Tree

MARGIN = 1e-9
"""Weights are sums of rounded numbers: a lead this small may be a tie."""


class _Finished(NamedTuple):
    ballot: Ballot | None
    """None where the trajectory failed."""
    number: int
    """Trajectories in the tree when it had been added."""


class Tally:
    """The votes of one run."""

    def __init__(self, tree: Tree, config: SearchConfig) -> None:
        self._tree = tree
        self._config = config
        self._classes = AnswerClasses()
        self._cast: list[Ballot] = []
        self._leader: ClassId | None = None
        self._decided_at = -1
        self._decided = False
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
            # Failed trajectories have no ballots; the last of them need not come before the last ballot.
            self._waiting.append(_Finished(None, tree.trajectories))

    @property
    def waiting(self) -> int:
        """Trajectories not counted yet."""
        return self._tree.trajectories - self.counted

    @property
    def is_complete(self) -> bool:
        """Whether every trajectory is counted."""
        return not self._waiting

    def add(self, end: Node) -> None:
        """Add the trajectory that was backed up from `end`."""
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

    async def compare(self, equality: AnswerEquality) -> None:
        """Compare the next answer with others until it can be counted."""
        ballot = self._waiting[0].ballot
        assert ballot is not None
        while (pair := self._classes.place(ballot.answer)) is not None:
            self._classes.learn(pair, await equality.same(*pair))

    def count_the_rest(self) -> None:
        """Count all that wait without calling the checker: answers that were not compared count as different."""
        while self._waiting:
            finished = self._waiting.popleft()
            while finished.ballot is not None and (pair := self._classes.place(finished.ballot.answer)) is not None:
                self._classes.learn(pair, Verdict.UNKNOWN)
            self._count(finished)

    def is_decided(self, trajectories_left: int) -> bool:
        """Whether no answer can overtake the leading one in so many more trajectories after the last one counted.

        Conservative: may say «undecided» too long, never «decided» too early. It assumes that each trajectory to come,
        those in flight included, gives the most votes it can have to one rival. So rollouts in flight may be given up
        once the search is decided. Computed once per count: a tree that grows in between can only lower these votes.
        """
        if self._decided_at != self.counted:
            self._decided_at, self._decided = self.counted, self._work_out_decision(trajectories_left)
        return self._decided

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
            calibration=self._config.calibration,
        )
        answer = self.standing.answer
        leader = None if answer is None else self._classes[answer]
        if leader != self._leader:
            self._leader, self.leads_since = leader, self.counted

    def _work_out_decision(self, left: int) -> bool:
        config = self._config
        votes_waiting = sum(finished.ballot.votes for finished in self._waiting if finished.ballot is not None)
        displaced = 0
        if config.answer_selection is Selection.WEIGHTED_VOTE and config.top_k is not None:
            displaced = min(left, max(0, len(self._cast) + left - config.top_k))
        return is_decided(
            self.standing,
            selection=config.answer_selection,
            gain=votes_waiting + (left - self.waiting) * self._most_votes_ahead(),
            loss=displaced * max((ballot.votes for ballot in self._cast), default=0),
            has_unknown=self._classes.has_unknown,
        )

    def _most_votes_ahead(self) -> int:
        match self._config.strategy:
            case Strategy.MCTS:
                return most_votes_ahead(self._tree, self._tree.root, agreement=self._config.candidates)
            case Strategy.STEP_BEAM:
                return self._config.candidates
            case Strategy.GREEDY | Strategy.MAJORITY | Strategy.BEST_OF_N:
                return 1
            case _:
                assert_never(self._config.strategy)


def is_decided(standing: Standing, *, selection: Selection, gain: int, loss: int, has_unknown: bool) -> bool:
    """Whether no answer can overtake the leading one when a rival may gain `gain` votes and the leader lose `loss`.

    A vote weighs 1 at most. Under `has_unknown` the rivals may all be one answer. A best score can always be beaten.
    """
    if not standing.groups or selection is Selection.BEST:
        return False
    strengths = [group.votes if selection is Selection.MAJORITY else group.weight for group in standing.groups]
    rivals = strengths[1:] or [0.0]
    rival = sum(rivals) if has_unknown else max(rivals)
    return strengths[0] - loss > rival + gain + MARGIN


def most_votes_ahead(tree: Tree, node: Node, *, agreement: int, found: int = 0) -> int:
    """The most votes that any trajectory still to be made through `node` can have: as many as its rarest step.

    Up to `agreement` candidates may agree on each step that is not in the tree yet. At least `found`.
    """
    if agreement <= found or node.is_finished:
        return found
    if not node.children:
        return agreement
    for child in tree.children(node):
        found = most_votes_ahead(tree, child, agreement=min(agreement, child.multiplicity), found=found)
    return found


def _number(end: Node, position: int) -> int:
    return (position if end.ends_trajectory is None else end.ends_trajectory) + 1
