"""Descriptors: lets this process run out of them, as a server under load can."""

import resource
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def only_new_descriptors(count: int) -> Generator[None]:
    """In here only `count` more can be open at once. Whatever is open stays so."""
    taken = open_descriptors()
    free = (number for number in range(len(taken) + count + 1) if number not in taken)
    limit = [next(free) for _ in range(count + 1)][-1]  # numbers below it may be had
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_descriptors() -> set[int]:
    """By number."""
    # The one that the listing itself takes is closed by the time it is looked at.
    return {int(entry.name) for entry in list(Path("/proc/self/fd").iterdir()) if entry.is_symlink()}
