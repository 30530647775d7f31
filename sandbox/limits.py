"""Limits: what one step may use, and what snapshots may."""

import math
from dataclasses import dataclass, fields

from sandbox.wire import MAX_FRAME_BYTES, REPORT_OVERHEAD_BYTES, RUN_OVERHEAD_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step may use; all positive."""

    cpu_s: float = 10.0
    """CPU time, the main limit: unlike wall time it does not depend on the neighbours."""
    wall_s: float = 30.0
    """Wall-clock time from the step's first statement; a backstop for sleeping steps, so a few times `cpu_s`."""
    memory_mb: int = 512
    """Address space of the whole path's state, beyond that of the preloaded interpreter."""
    output_bytes: int = 16384
    """UTF-8 length of what is printed; the value of the last expression is cut at the same length."""
    code_bytes: int = 65536
    """UTF-8 length of the code."""
    stack_mb: int = 8
    """Stack of the process."""
    open_files: int = 64
    """Open descriptors."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"limit {field.name} must be positive and finite, not {value}")
        if max(self.code_bytes + RUN_OVERHEAD_BYTES, 2 * self.output_bytes + REPORT_OVERHEAD_BYTES) > MAX_FRAME_BYTES:
            raise ValueError(f"code_bytes and twice output_bytes must fit into {MAX_FRAME_BYTES} bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """How many snapshots are kept alive; what is not is replayed when it is needed."""

    per_tree: int = 32
    """More hardly ever helps: a random expansion of a tree finds 97 % of its parents among the last 32."""
    overall: int = 256
    overall_mb: int = 2048
    """Memory that live snapshots do not share, with that of running steps on top."""
    snapshot_mb: int = 64
    """A bigger state is not kept: it costs as much to fork as a replay."""
    trees: int = 64
    """Trees with processes; one that has been idle for longest gives them up for the next."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ValueError(f"{field.name} must be at least 1, not {getattr(self, field.name)}")
