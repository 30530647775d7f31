"""Errors of the sandbox itself; what a step does wrong is an `Outcome`, never one of these.

SandboxError ├── SandboxUnavailable this machine cannot start a confined process │ └── ZygoteEnded this zygote died, or
does not answer; others are tried before a caller sees this └── SandboxMisuse a closed sandbox or tree, or a snapshot of
another tree
"""


class SandboxError(Exception):
    """The sandbox cannot do the requested work."""


class SandboxUnavailable(SandboxError):
    """This machine cannot start a confined process."""


class ZygoteEnded(SandboxUnavailable):
    """A zygote died, or does not answer: another one may."""


class SandboxMisuse(SandboxError):
    """The caller used something closed or foreign."""
