"""Promotion: whether the models of a round replace the ones before them. Decided on validation problems only. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class NotComparable(Exception):
    """Two sets of models were not measured on the same problems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Shares of validation problems solved, in [0, 1], and what follows."""

    candidate: float
    incumbent: float
    problems: int
    is_promoted: bool


def strongest_of(solved: Sequence[Mapping[str, bool]]) -> int:
    """Which of several sets of models solved most problems; of equals the last. A candidate is compared with it.

    Compared with the last ones only, small losses would add up over the rounds.
    """
    return max(range(len(solved)), key=lambda index: (sum(solved[index].values()), index))


def decide(candidate: Mapping[str, bool], incumbent: Mapping[str, bool], *, tolerance: float) -> Decision:
    """Compare what two sets of models solved, by problem id.

    The candidate is refused where its share is below the incumbent's by more than `tolerance`: among a few hundred
    problems a smaller loss may be chance, and rounds that learn from better data are worth that risk. Raises
    `NotComparable`.
    """
    if candidate.keys() != incumbent.keys() or not candidate:
        raise NotComparable(
            f"promotion compares the same validation problems: the candidate has {len(candidate)}, the incumbent "
            f"{len(incumbent)}, of which {len(candidate.keys() & incumbent.keys())} are the same"
        )
    shares = [sum(solved.values()) / len(solved) for solved in (candidate, incumbent)]
    # A loss of exactly the tolerance is accepted, whatever the rounding of the shares.
    lost = sum(incumbent.values()) - sum(candidate.values())
    return Decision(
        candidate=shares[0],
        incumbent=shares[1],
        problems=len(candidate),
        is_promoted=lost <= tolerance * len(candidate) + 1e-9,
    )
