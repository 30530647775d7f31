"""OpenMP settings that must be in the environment before torch is first imported. Imports nothing heavy itself."""

import os
import sys
from collections.abc import MutableMapping

_POLICY = "OMP_WAIT_POLICY"


def wait_passively(environment: MutableMapping[str, str] = os.environ) -> None:
    """Make OpenMP's threads sleep, not spin, at the end of each parallel region, unless the operator chose otherwise.

    Spinning threads that share their cores with other processes (the sandbox's, a training job's) were measured to take
    10 to 100 times as long per decoding step; sleeping ones take 1.1 to 1.5 times as long as on idle cores. A
    command calls this first of all; once torch is imported it has no effect.
    """
    assert "torch" not in sys.modules or environment is not os.environ, "torch was imported before its OpenMP settings"
    environment.setdefault(_POLICY, "PASSIVE")


def waits_passively(environment: MutableMapping[str, str] = os.environ) -> bool:
    """Whether more than one thread is safe on busy cores."""
    return environment.get(_POLICY, "").lower() == "passive"


def default_threads(environment: MutableMapping[str, str] = os.environ) -> int:
    """The usable cores, or 1 where the threads would spin."""
    return len(os.sched_getaffinity(0)) if waits_passively(environment) else 1
