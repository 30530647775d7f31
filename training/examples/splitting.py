"""Splitting: examples for training and for validation, divided by problem and never by example.

The side of a problem depends on its id alone. So it stays the same when problems are added, in every round and for
every reward model, and nothing learnt from a problem is ever validated on it. Pure.
"""

import hashlib
from collections.abc import Iterable
from typing import Generic, NamedTuple, Protocol, TypeVar


class OfProblem(Protocol):
    """An example that knows which problem it is of."""

    @property
    def problem_id(self) -> str:
        """Unique within a run."""
        ...


Example = TypeVar("Example", bound=OfProblem)


class Sides(NamedTuple, Generic[Example]):
    """The two sides of a split, each in the given order."""

    training: list[Example]
    validation: list[Example]


def split_by_problem(examples: Iterable[Example], *, held_out: float) -> Sides[Example]:
    """Hold out the examples of about the share `held_out` of all problems."""
    sides = Sides[Example]([], [])
    for example in examples:
        side = sides.validation if is_held_out(example.problem_id, share=held_out) else sides.training
        side.append(example)
    return sides


def is_held_out(problem_id: str, *, share: float) -> bool:
    """Whether the problem is for validation; a problem held out at one share is held out at every greater one."""
    digest = hashlib.blake2b(problem_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2**64
