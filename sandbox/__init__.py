"""Sandbox: runs untrusted code steps, each in its own confined process, over interpreter states that form trees.

Standalone: standard library only, and nothing of the other packages. See README.md for what is and is not covered.

    async with Sandbox(limits=Limits(cpu_s=5)) as sandbox, sandbox.tree(seed=1) as tree:
        first = await tree.run(None, "x = 6")
        second = await tree.run(first.snapshot, "print(x * 7)")
"""

from sandbox.confinement import Mechanism
from sandbox.counters import WAIT_BOUNDS_S, Counters
from sandbox.ending import SnapshotId, StepResult
from sandbox.errors import SandboxError, SandboxMisuse, SandboxUnavailable
from sandbox.levels import Level, Protection, wanted_level
from sandbox.limits import CacheLimits, Limits
from sandbox.outcomes import Outcome
from sandbox.sandbox import Sandbox
from sandbox.status import Status
from sandbox.tree import Tree

__all__ = [
    "WAIT_BOUNDS_S",
    "CacheLimits",
    "Counters",
    "Level",
    "Limits",
    "Mechanism",
    "Outcome",
    "Protection",
    "Sandbox",
    "SandboxError",
    "SandboxMisuse",
    "SandboxUnavailable",
    "SnapshotId",
    "Status",
    "StepResult",
    "Tree",
    "wanted_level",
]
