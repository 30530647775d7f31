# pyright: basic
"""The choice of engines: what options and folders lead to."""

import asyncio
import importlib.util
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import torch

from server.bundle.folders import ModelFolders
from server.engines.choice import BackendName, EngineOptions, RemoteOptions, make_engines
from server.engines.errors import EngineError, MemoryRefused
from server.engines.policy import PolicyEngine
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.torch.policy import TorchCompleter
from server.engines.vllm.arguments import VllmOptions
from server.engines.vllm.memory import MemoryShare

pytestmark = pytest.mark.slow

without_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_without_a_gpu_auto_is_torch(model_folders: ModelFolders, backend: BackendName) -> None:
    if backend == "auto" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    policy = make_engines(model_folders, EngineOptions(backend=backend)).policy
    assert isinstance(policy, PolicyEngine)
    assert isinstance(policy.completer, TorchCompleter)


@without_vllm
def test_vllm_that_is_not_installed_is_one_reason(model_folders: ModelFolders) -> None:
    with pytest.raises(EngineError, match="vLLM is not installed"):
        make_engines(model_folders, EngineOptions(backend="vllm"))


@asynccontextmanager
async def _stub_server(answer: bytes) -> AsyncGenerator[tuple[str, list[str], asyncio.Event]]:
    """The address of a server that answers all alike, or not at all; what it is asked; and whether a client gave up."""
    heard: list[str] = []
    gave_up = asyncio.Event()

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        if answer:
            writer.write(answer)
        else:
            await reader.read()
            gave_up.set()
        writer.close()

    async with await asyncio.start_server(hear, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", heard, gave_up


async def test_each_remote_server_gets_its_own_key(model_folders: ModelFolders) -> None:
    refusing = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    async with asyncio.timeout(60), _stub_server(refusing) as (url, heard, _):
        policy, ppm = (RemoteAddress(url=url, api_key=key) for key in ("policy-secret", "ppm-secret"))
        options = EngineOptions(backend="openai", remote=RemoteOptions(policy=policy, ppm=ppm))
        engines = make_engines(model_folders, options)
        for engine in (engines.policy, engines.ppm):
            with pytest.raises(EngineError):
                async with engine:
                    pass
    shown = {line for head in heard for line in head.splitlines() if line.startswith("authorization")}
    assert shown == {"authorization: bearer policy-secret", "authorization: bearer ppm-secret"}


async def test_a_remote_server_is_waited_for_no_longer_than_allowed(model_folders: ModelFolders) -> None:
    async with asyncio.timeout(60), _stub_server(b"") as (url, _, gave_up), asyncio.TaskGroup() as group:
        address = RemoteAddress(url=url)
        remote = RemoteOptions(policy=address, ppm=address, limits=RemoteLimits(answer_s=0.1))
        engines = make_engines(model_folders, EngineOptions(backend="openai", remote=remote))
        entering = group.create_task(engines.policy.__aenter__())
        await gave_up.wait()
        assert not entering.done()  # one answer was given up, and the start goes on trying
        entering.cancel()


@pytest.mark.vllm
def test_a_share_that_holds_no_path_is_refused_before_any_start(model_folders: ModelFolders) -> None:
    options = VllmOptions(ppm=MemoryShare(gpu_fraction=0.35, cpu_bytes=1000, dtype="float32"))
    with pytest.raises(MemoryRefused, match="raise RSTAR_VLLM_PPM_KV_GB"):
        make_engines(model_folders, EngineOptions(backend="vllm", vllm=options))
