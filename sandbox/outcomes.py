"""Outcomes: the closed set of reasons why a step ended."""

from enum import StrEnum


class Outcome(StrEnum):
    """Why a step ended."""

    OK = "ok"
    """Ran to its end."""
    ERROR = "error"
    """Raised an exception; `sys.exit()` counts as one."""
    TIMEOUT_CPU = "timeout_cpu"
    """Used up its CPU time."""
    TIMEOUT_WALL = "timeout_wall"
    """Used up its wall-clock time."""
    MEMORY = "memory"
    """Asked for more memory than allowed."""
    OUTPUT_LIMIT = "output_limit"
    """Printed more than the cap; what was printed before it is kept."""
    CRASHED = "crashed"
    """The process ended without reporting a result."""
    VIOLATION = "violation"
    """Broke a rule of the sandbox: over-long code, a forged report, or no end of tries to make processes."""
    LOST = "lost"
    """Never ran, or was ended through no fault of its own: the state before it could not be rebuilt, its tree was
    closed, or the sandbox's own process died."""
