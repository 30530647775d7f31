"""Real vLLM servers for tests, each a process of its own session, and engines opened over them.

`open_remote_policy` and `open_remote_scorer` put the remote engines under the engines' contracts.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path as FilePath

from server.engines.policy import PolicyEngine
from server.engines.protocols import ScorerEngine
from server.engines.remote.client import RemoteAddress
from tests.server.engines.built import remote_policy_of, remote_scorer_of

API_KEY = "a-test-key"
_START_S = 600.0
"""A start takes 25 s on an idle machine; this is for one that is not."""
_STOP_S = 30.0


@contextmanager
def vllm_server(
    folder: FilePath, *, name: str, is_pooling: bool, dtype: str = "bfloat16", arguments: Sequence[str] = ()
) -> Generator[RemoteAddress, None, None]:
    """A server over a model folder, ready; afterwards none of its processes is left."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", str(folder), "--served-model-name", name, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--api-key", API_KEY, "--dtype", dtype, "--block-size", "32", "--max-num-seqs", "64"]
    # A request seed in a chunked prefill kills the engine on the CPU; compiling would take longer than the tests.
    command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "4096", "--enforce-eager"]
    command += ["--enable-prefix-caching", "--enable-prompt-tokens-details"]
    command += [*(["--runner", "pooling"] if is_pooling else []), *arguments]
    quiet = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    small = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, env={**os.environ, **quiet, **small}, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_until_up(process, port, log.fileno())
            yield RemoteAddress(url=f"http://127.0.0.1:{port}", api_key=API_KEY, model=name)
        finally:
            _end(process)
        assert processes_of_session(process.pid) == []


@asynccontextmanager
async def open_remote_policy(folder: FilePath) -> AsyncGenerator[PolicyEngine]:
    with vllm_server(folder, name="policy", is_pooling=False, dtype="float32") as address:
        async with remote_policy_of(address, folder) as engine:
            yield engine


@asynccontextmanager
async def open_remote_scorer(folder: FilePath) -> AsyncGenerator[ScorerEngine]:
    with vllm_server(folder, name="ppm", is_pooling=True, dtype="float32") as address:
        async with remote_scorer_of(address, folder) as engine:
            yield engine


def processes_of_session(session: int) -> list[int]:
    """The processes of a session, zombies left out."""
    found: list[int] = []
    for folder in FilePath("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                state, _, _, own_session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(own_session) == session and state != "Z":
                found.append(int(folder.name))
    return found


def _wait_until_up(process: "subprocess.Popen[bytes]", port: int, log: int) -> None:
    deadline_s = time.monotonic() + _START_S
    while time.monotonic() < deadline_s:
        if process.poll() is not None:
            raise RuntimeError(f"vLLM ended with {process.returncode}:\n{os.pread(log, 100_000, 0).decode()[-4000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)  # a starting server sends no event when it is ready
    raise RuntimeError(f"vLLM is not up after {_START_S:g} s:\n{os.pread(log, 100_000, 0).decode()[-4000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    deadline_s = time.monotonic() + _STOP_S
    while processes_of_session(process.pid) and time.monotonic() < deadline_s:
        process.poll()
        time.sleep(0.1)
    for left in processes_of_session(process.pid):
        os.kill(left, signal.SIGKILL)
    process.wait(_STOP_S)
