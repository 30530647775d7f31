"""Version: the version of the distribution that is running."""

import importlib.metadata

DISTRIBUTION = "rstar-server"


def running_version() -> str:
    """The version that the installation recorded; `unknown` for sources that were never installed."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
