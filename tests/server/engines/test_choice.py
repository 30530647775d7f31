# pyright: basic
"""The choice of engine: what the settings lead to."""

import asyncio
import importlib.util
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import torch
from pydantic import SecretStr

from server.bundle.folders import ModelFolders
from server.engines.choice import make_engines, vllm_options
from server.engines.errors import EngineError, MemoryRefused
from server.engines.torch.policy import TorchPolicyEngine
from server.settings.settings import Settings

pytestmark = pytest.mark.slow

without_vllm = pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed here")


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_without_a_gpu_auto_is_torch(model_folders: ModelFolders, engine) -> None:
    if engine == "auto" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert isinstance(make_engines(model_folders, Settings(engine=engine)).policy, TorchPolicyEngine)


@without_vllm
def test_vllm_that_is_not_installed_is_one_reason(model_folders: ModelFolders) -> None:
    with pytest.raises(EngineError, match="vLLM is not installed"):
        make_engines(model_folders, Settings(engine="vllm"))


def test_the_shares_of_memory_are_those_of_the_settings() -> None:
    settings = Settings(
        vllm_policy_gpu_fraction=0.6,
        vllm_ppm_gpu_fraction=0.2,
        vllm_policy_kv_gb=2.5,
        vllm_ppm_kv_gb=0.25,
        vllm_ppm_dtype="bfloat16",
        vllm_tensor_parallel=2,
    )
    options = vllm_options(settings)
    assert (options.policy.gpu_fraction, options.policy.cpu_bytes) == (0.6, 2_500_000_000)
    assert (options.ppm.gpu_fraction, options.ppm.cpu_bytes) == (0.2, 250_000_000)
    assert (options.ppm.dtype, options.tensor_parallel) == ("bfloat16", 2)


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
        settings = Settings(
            engine="openai",
            policy_url=url,
            ppm_url=url,
            policy_api_key=SecretStr("policy-secret"),
            ppm_api_key=SecretStr("ppm-secret"),
        )
        engines = make_engines(model_folders, settings)
        for engine in (engines.policy, engines.ppm):
            with pytest.raises(EngineError):
                async with engine:
                    pass
    shown = {line for head in heard for line in head.splitlines() if line.startswith("authorization")}
    assert shown == {"authorization: bearer policy-secret", "authorization: bearer ppm-secret"}


async def test_a_remote_server_is_waited_for_no_longer_than_allowed(
    model_folders: ModelFolders,
) -> None:
    async with asyncio.timeout(60), _stub_server(b"") as (url, _, gave_up), asyncio.TaskGroup() as group:
        settings = Settings(engine="openai", policy_url=url, ppm_url=url, remote_timeout_s=0.1)
        entering = group.create_task(make_engines(model_folders, settings).policy.__aenter__())
        await gave_up.wait()
        entering.cancel()


@pytest.mark.vllm
def test_a_share_that_holds_no_path_is_refused_before_anything_starts(model_folders: ModelFolders) -> None:
    with pytest.raises(MemoryRefused, match="raise RSTAR_VLLM_PPM_KV_GB"):
        make_engines(model_folders, Settings(engine="vllm", vllm_ppm_kv_gb=1e-6))
