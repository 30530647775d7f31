"""Answers: sorts equal answers into classes, counts the votes of trajectories, and says how sure the winner is. Pure.

A trajectory that states an answer gets as many votes as its rarest step was sampled. Equal candidates are merged into
one node, so without this a step that all candidates agree on would count as little as one that a single candidate got
wrong. Trajectories of greedy, majority and best of n are sampled separately from the root on, and have one vote each.

A vote weighs (1 + score) / 2, in [0, 1]; without a score 1/2, as at score 0.

    vote share = winner's weight / (weight of all votes + 1/2 per failed trajectory + 1/2)

So a lone answer among failures is not certain, and nothing is certain after few votes: the last 1/2 stands for one
imagined trajectory with another answer. Under `majority` every vote weighs 1/2.

The confidence is the vote share, or what a `Calibration` makes of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NewType

from search.config import Calibration, Selection
from search.outcomes import NodeOutcome, Verdict
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
