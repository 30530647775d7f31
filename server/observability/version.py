"""Version: of the distribution that is running, as its installation recorded it."""

import importlib.metadata

DISTRIBUTION = "rstar-server"


def running_version() -> str:
    """`unknown` for sources that were never installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
