"""Limits with which no test waits."""

import pytest

from server.engines.remote.client import RemoteLimits, Retries


@pytest.fixture
def limits() -> RemoteLimits:
    """Generous but for the waiting, which takes no time."""
    retries = Retries(attempts=4, first_delay_s=0.001, max_delay_s=0.002)
    return RemoteLimits(connect_s=30.0, answer_s=60.0, start_s=60.0, start_poll_s=0.001, retries=retries)
