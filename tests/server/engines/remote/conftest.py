"""A stub server for each test, and limits that make no test wait."""

from collections.abc import AsyncGenerator

import pytest

from server.engines.remote.client import RemoteLimits
from server.engines.remote.retries import Retries
from tests.server.engines.remote.stub_server import StubServer, stub_server


@pytest.fixture
async def stub() -> AsyncGenerator[StubServer]:
    async with stub_server() as server:
        yield server


@pytest.fixture
def limits() -> RemoteLimits:
    """Generous but for the waiting, which takes no time."""
    retries = Retries(attempts=4, first_delay_s=0.001, max_delay_s=0.002)
    return RemoteLimits(connect_s=30.0, answer_s=60.0, start_s=60.0, start_poll_s=0.001, retries=retries)
