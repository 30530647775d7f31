"""`python -m training`: sets the environment that torch reads when it is imported, then runs the command line."""

import sys

from server.engines.torch.openmp import wait_passively


def main() -> int:
    """The exit code."""
    wait_passively()
    from training.command import main as run  # torch reads the environment when it is imported

    return run()


if __name__ == "__main__":
    sys.exit(main())
