"""Seeds: one number per request to the policy, the same in every run of the same search.

Engines give sample k of a request the seed s + k, so that requests with consecutive seeds would share samples: each
seed is a hash instead.
"""

import hashlib

from search.protocols import Path


def request_seed(search_seed: int, path: Path, *, draw: int) -> int:
    """A seed from 0 to 2**63 - 1 for proposing the step after `path`; `draw` tells repeated requests apart.

    The top bit of the 64-bit hash is dropped, since engines take seeds as signed numbers.
    """
    digest = hashlib.blake2b(digest_size=8)
    for field in (str(search_seed), str(draw), path.problem):
        _add(digest, field)
    for step in path.steps:
        _add(digest, step.stop)
        _add(digest, step.text)
    return int.from_bytes(digest.digest(), "big") >> 1


def _add(digest: "hashlib.blake2b", field: str) -> None:
    # The length in front keeps ("ab", "c") and ("a", "bc") apart.
    encoded = field.encode("utf-8", "surrogatepass")
    digest.update(len(encoded).to_bytes(8, "big"))
    digest.update(encoded)
