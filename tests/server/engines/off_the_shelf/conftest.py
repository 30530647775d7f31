"""Folders of tiny random models, made once, and a stub server for each test that wants one."""

from collections.abc import AsyncGenerator
from pathlib import Path as FilePath

import pytest

from server.engines.torch.compute import ComputeThread
from server.engines.torch.runtime import TorchRuntime
from tests.server.engines.off_the_shelf.tiny_models import (
    save_chat_model,
    save_plain_model,
    save_process_reward_model,
    save_value_head_model,
)
from tests.server.engines.remote.stub_server import StubServer, stub_server


@pytest.fixture
async def stub() -> AsyncGenerator[StubServer]:
    async with stub_server() as server:
        yield server


@pytest.fixture(scope="session")
def chat_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_chat_model(tmp_path_factory.mktemp("models") / "chat")


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_plain_model(tmp_path_factory.mktemp("models") / "plain")


@pytest.fixture(scope="session")
def prm_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_process_reward_model(tmp_path_factory.mktemp("models") / "prm")


@pytest.fixture(scope="session")
def value_head_folder(tmp_path_factory: pytest.TempPathFactory) -> FilePath:
    return save_value_head_model(tmp_path_factory.mktemp("models") / "value_head")


@pytest.fixture
def one_thread() -> TorchRuntime:
    """The tests share the machine."""
    return TorchRuntime(compute=ComputeThread(threads=1))
