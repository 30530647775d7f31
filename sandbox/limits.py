"""Limits: what one step may use."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one step may use; all positive."""

    cpu_s: float = 10.0
    """CPU time, the main limit: unlike wall time it does not depend on the neighbours."""
    wall_s: float = 30.0
    """Wall-clock time from the step's first statement; a backstop for sleeping steps, so a few times `cpu_s`."""
    memory_mb: int = 512
    """Address space beyond that of the preloaded interpreter."""
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
