"""Sandbox: runs untrusted code steps, each in its own confined process, over interpreter states that form trees.

Standalone: standard library only, and nothing of the other packages. README.md lists what is covered and what is not.

    async with Sandbox(limits=Limits(cpu_s=5)) as sandbox, sandbox.tree(seed=1) as tree:
        first = await tree.run(None, "x = 6")
        second = await tree.run(first.snapshot, "print(x * 7)")
"""

from sandbox.cache import CacheLimits
from sandbox.confinement import Mechanism
from sandbox.errors import SandboxError, SandboxMisuse, SandboxUnavailable
from sandbox.levels import Level, Protection, wanted_level
from sandbox.sandbox import Sandbox
from sandbox.status import WAIT_BOUNDS_S, Status
from sandbox.step import Limits, Outcome, SnapshotId, StepResult
from sandbox.tree import Tree

__all__ = [
    "WAIT_BOUNDS_S",
    "CacheLimits",
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
