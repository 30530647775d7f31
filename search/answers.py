"""Answers: sorts equal answers into classes, counts the votes of trajectories, and says how sure the winner is, and
when it is final. Pure.

A trajectory that states an answer gets as many votes as its rarest step was sampled. Equal candidates are merged into
one node, so without this a step that all candidates agree on would count as little as one that a single candidate got
wrong. Trajectories of greedy, majority and best of n are sampled separately from the root on, and have one vote each.

A vote weighs (1 + score) / 2, in [0, 1]; without a score 1/2, as at score 0.

    vote share = winner's weight / (weight of all votes + 1/2 per failed trajectory + 1/2)

So a lone answer among failures is not certain, and nothing is certain after few votes: the last 1/2 stands for one
imagined trajectory with another answer. Under `majority` every vote weighs 1/2.

The confidence is the vote share, or what a `Calibration` makes of it.

The **tally** counts votes trajectory by trajectory, in the order of their numbers, and decides when the lead is final.

An answer is counted once its class is known; until then it waits, and all later ones with it, so that the count never
depends on which comparison is faster. Only `compare` calls the equality checker. Never changes the tree.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, NewType, assert_never

from search.config import Calibration, SearchConfig, Selection, Strategy
from search.outcomes import NodeOutcome, Verdict
from search.protocols import AnswerEquality
from search.tree import Node, NodeId, Tree

NEUTRAL_WEIGHT = 0.5
"""The weight of a vote without a PPM score: (1 + 0) / 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballot:
    """One finished trajectory that states an answer."""

    node_id: NodeId
    answer: str
    score: float | None
    votes: int = 1
    """Candidates that agree on its rarest step."""

    @property
    def weight(self) -> float:
        """The weight of one of its votes, in [0, 1]."""
        return NEUTRAL_WEIGHT if self.score is None else (1.0 + self.score) / 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerGroup:
    """Equal answers, with their votes, weight and score."""

    answer: str
    """The answer as the best-scored trajectory spells it."""
    votes: int
    """Votes of the trajectories that state the answer."""
    weight: float
    """Sum of the weights of the votes: under `weighted_vote` only the best-scored `top_k` of all trajectories vote."""
    score: float | None
    """Score of the best-scored trajectory; None if none was scored."""
    node_ids: tuple[NodeId, ...]
    """Where the trajectories end, best-scored first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The answers so far, best first."""

    groups: tuple[AnswerGroup, ...] = ()
    confidence: float = 0.0
    """Confidence that the first is right, in [0, 1); 0 without an answer. The vote share, or fitted from it."""

    @property
    def answer(self) -> str | None:
        """The best answer so far; None while there is none."""
        return self.groups[0].answer if self.groups else None


def ballots(tree: Tree) -> list[Ballot]:
    """The ballots of the finished trajectories with an answer, in the order of finishing.

    An answer step that no rollout has reached has no ballot. Trajectories saved before they were numbered come first,
    by id.
    """
    ended = [node for node in tree.nodes if node.outcome is NodeOutcome.ANSWERED and node.trajectories > 0]
    ended.sort(key=lambda node: (-1 if node.ends_trajectory is None else node.ends_trajectory, node.id))
    return [ballot for node in ended if (ballot := ballot_of(tree, node)) is not None]


def ballot_of(tree: Tree, node: Node) -> Ballot | None:
    """The ballot of the trajectory that ended at `node`; None where it failed."""
    if node.outcome is not NodeOutcome.ANSWERED or node.answer is None:
        return None
    agreement = min(step.multiplicity for step in tree.lineage(node.id)[1:])
    return Ballot(node_id=node.id, answer=node.answer, score=node.score, votes=agreement)


def count_votes(
    cast: Sequence[Ballot],
    class_of: Callable[[str], int],
    *,
    failures: int,
    selection: Selection,
    top_k: int | None,
    calibration: Calibration | None = None,
) -> Standing:
    """Rank the answers. `failures` trajectories ended without one; `class_of` gives the class of equal answers."""
    ranked = sorted(cast, key=lambda ballot: (-ballot.weight, ballot.node_id))
    seats = len(ranked) + failures if top_k is None or selection is not Selection.WEIGHTED_VOTE else top_k
    voting = ranked[:seats]
    # Failed trajectories rank behind all others, and take the seats that are left.
    failed_voting = min(failures, seats - len(voting))

    by_class: dict[int, list[Ballot]] = {}
    for ballot in ranked:
        by_class.setdefault(class_of(ballot.answer), []).append(ballot)
    voters = frozenset(ballot.node_id for ballot in voting)
    groups = [_group(members, voters) for members in by_class.values()]
    groups.sort(key=lambda group: _rank(group, selection), reverse=True)
    if not groups:
        return Standing()
    strengths = [_strength(group, selection) for group in groups]
    opposition = NEUTRAL_WEIGHT * failed_voting + NEUTRAL_WEIGHT
    share = strengths[0] / (sum(strengths) + opposition)
    trajectories = len(ranked) + failures
    confidence = share if calibration is None else calibration.confidence(share, trajectories=trajectories)
    return Standing(groups=tuple(groups), confidence=confidence)


def _group(members: Sequence[Ballot], voters: frozenset[NodeId]) -> AnswerGroup:
    """The group of the ballots of one class, best first."""
    return AnswerGroup(
        answer=members[0].answer,
        votes=sum(ballot.votes for ballot in members),
        weight=sum(ballot.votes * ballot.weight for ballot in members if ballot.node_id in voters),
        score=max((ballot.score for ballot in members if ballot.score is not None), default=None),
        node_ids=tuple(ballot.node_id for ballot in members),
    )


def _rank(group: AnswerGroup, selection: Selection) -> tuple[float, ...]:
    """Greatest first; ties go to the group with the earliest trajectory."""
    score = -1.0 if group.score is None else group.score
    earliest = -min(group.node_ids)
    match selection:
        case Selection.WEIGHTED_VOTE:
            return (group.weight, group.votes, score, earliest)
        case Selection.MAJORITY:
            return (group.votes, group.weight, score, earliest)
        case Selection.BEST:
            return (score, group.weight, group.votes, earliest)


def _strength(group: AnswerGroup, selection: Selection) -> float:
    return NEUTRAL_WEIGHT * group.votes if selection is Selection.MAJORITY else group.weight


Pair = tuple[str, str]
"""Two answers to be compared, sorted: the checker is symmetric, so each pair is asked about once."""

ClassId = NewType("ClassId", int)
"""Numbers a class of equal answers, in the order of first appearance."""


class AnswerClasses:
    """Classes of equal answers of one search; each question about a pair is asked once.

    An answer joins the first class in which some member is the same. A member that is different rules its class out; a
    member that could not be compared does not. So UNKNOWN never merges two answers, and never separates them for good:
    a later member may decide. Answers are placed one after the other, each once.
    """

    def __init__(self) -> None:
        self._verdicts: dict[Pair, Verdict] = {}
        self._members: list[list[str]] = []
        self._class_of: dict[str, ClassId] = {}
        self.has_unknown = False
        """Whether two classes may hold equal answers, because some pair could not be compared."""

    def __getitem__(self, answer: str) -> ClassId:
        """The class of an answer that was placed."""
        return self._class_of[answer]

    def learn(self, pair: Pair, verdict: Verdict) -> None:
        """Remember the verdict of the equality checker."""
        self._verdicts[pair] = verdict

    def place(self, answer: str) -> Pair | None:
        """Give the answer its class, or return the pair that must be compared first."""
        if answer in self._class_of:
            return None
        in_doubt, joined = False, len(self._members)
        for number, members in enumerate(self._members):
            verdict = Verdict.UNKNOWN
            for member in members:
                pair = (min(member, answer), max(member, answer))
                if pair not in self._verdicts:
                    return pair
                verdict = self._verdicts[pair]
                if verdict is not Verdict.UNKNOWN:
                    break
            if verdict is Verdict.SAME:
                joined = number
                break
            in_doubt = in_doubt or verdict is Verdict.UNKNOWN
        if joined == len(self._members):
            self._members.append([])
        self._members[joined].append(answer)
        self._class_of[answer] = ClassId(joined)
        self.has_unknown = self.has_unknown or in_doubt
        return None


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
