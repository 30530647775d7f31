"""Configurations: a sandbox with all its mechanisms, or with one of them switched off."""

from enum import StrEnum

from sandbox import Level, Limits, Mechanism, Sandbox

EXIT_UNAVAILABLE = 3


class Configuration(StrEnum):
    """Which mechanisms protect the machine."""

    ALL = "all"
    """Everything that this machine offers."""
    NO_NAMESPACES = "no-namespaces"
    NO_LANDLOCK = "no-landlock"
    NO_NOTIFICATION = "no-notification"
    """With the fork gate that rests on the limit of processes."""
    NO_FILTER = "no-filter"
    """Without the system-call filter: the negative control."""


_SWITCHED_OFF: dict[Configuration, frozenset[Mechanism]] = {
    Configuration.ALL: frozenset(),
    Configuration.NO_NAMESPACES: frozenset({Mechanism.NAMESPACES}),
    Configuration.NO_LANDLOCK: frozenset({Mechanism.LANDLOCK}),
    Configuration.NO_NOTIFICATION: frozenset({Mechanism.NOTIFICATION}),
    Configuration.NO_FILTER: frozenset({Mechanism.SECCOMP}),
}


def sandbox_of(configuration: Configuration, *, limits: Limits, workers: int = 2) -> Sandbox:
    """A sandbox, not yet open."""
    min_level = Level.NONE if configuration is Configuration.NO_FILTER else Level.REDUCED
    return Sandbox(limits=limits, workers=workers, min_level=min_level, switched_off=_SWITCHED_OFF[configuration])
