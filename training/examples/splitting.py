"""Splitting: which problems only measure models. Examples are divided by problem, and never by example.

The side of a problem depends on its id alone. So it stays the same when problems are added, in every round and for
every reward model, and nothing learnt from a problem is ever validated on it. The hash is this module's own: problems
that were chosen by another hash of their ids are divided as evenly as all others. Pure.
"""

import hashlib


def is_held_out(problem_id: str, *, share: float) -> bool:
    """Whether all examples of the problem are for validation; true of about the `share` of all problems.

    A problem held out at one share is held out at every greater one.
    """
    digest = hashlib.blake2b(problem_id.encode("utf-8", "surrogatepass"), digest_size=8, person=b"held out").digest()
    return int.from_bytes(digest, "big") < share * 2**64
