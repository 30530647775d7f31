"""Decision: whether the leading answer can still be overtaken. Pure, and never wrong to the safe side only.

It holds whatever the trajectories still to come turn out to be, those in flight among them: each is charged with as
many votes as it could have at most, all of them for one rival. So rollouts in flight may be given up once it holds.
"""

from search.answers import Standing
from search.config import Selection
from search.tree import ROOT, Node, Tree

MARGIN = 1e-9
"""Weights are sums of rounded numbers: a lead this small may be a tie."""


def is_decided(standing: Standing, *, selection: Selection, gain: int, loss: int, has_unknown: bool) -> bool:
    """Whether no answer can overtake the leading one when a rival may gain `gain` votes and the leader lose `loss`.

    A vote weighs 1 at most. Under `has_unknown` the rivals may all be one answer. The best-scored trajectory can always
    be outdone.
    """
    if not standing.groups or selection is Selection.BEST:
        return False
    strengths = [group.votes if selection is Selection.MAJORITY else group.weight for group in standing.groups]
    rivals = strengths[1:] or [0.0]
    rival = sum(rivals) if has_unknown else max(rivals)
    return strengths[0] - loss > rival + gain + MARGIN


def most_votes_ahead(tree: Tree, *, candidates: int) -> int:
    """The votes that any one trajectory still to be made in `tree` can have: as many as the rarest of its steps.

    Of steps that are not there yet, up to `candidates` may agree.
    """
    return _most_below(tree, tree[ROOT], agreement=candidates, found=0)


def _most_below(tree: Tree, node: Node, *, agreement: int, found: int) -> int:
    """The most votes of a trajectory through `node`, whose steps so far have `agreement`; at least `found`."""
    if agreement <= found or node.is_finished:
        return found
    if not node.children:
        return agreement
    for child in tree.children(node):
        found = _most_below(tree, child, agreement=min(agreement, child.multiplicity), found=found)
    return found
