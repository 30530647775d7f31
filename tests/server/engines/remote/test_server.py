"""Start, health and end of a remote engine."""

import asyncio
import dataclasses

import pytest

from search.protocols import Path
from server.engines.errors import EngineClosed, RemoteMismatch, RemoteRefused, RemoteUnavailable
from server.engines.policy import PolicyEngine
from server.engines.protocols import Sampling
from server.engines.remote.client import RemoteAddress, RemoteLimits
from server.engines.remote.ppm import RemoteScorer
from server.engines.rendering import PathTokens
from tests.server.engines.built import remote_policy
from tests.server.engines.remote.stub_models import CONTEXT_TOKENS, bundled_tokenizer, card, choice, play_policy
from tests.server.engines.remote.stub_server import Answer, Drop, Hang, StubServer
from tests.server.engines.waiting import until

OK = Answer(content=b"")
ILL = Answer(status=503, content=b"")
SAMPLING = Sampling(max_step_tokens=8)
MODEL_TOKENS = 1536


def engine(stub: StubServer, limits: RemoteLimits, *, model: str | None = None) -> PolicyEngine:
    return remote_policy(
        RemoteAddress(url=stub.url, model=model), bundled_tokenizer(), context_tokens=MODEL_TOKENS, limits=limits
    )


async def test_entering_waits_for_a_server_that_is_still_starting(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/health"] = [Drop(), ILL, OK]
    async with engine(stub, limits) as policy:
        assert policy.fault is None
        assert policy.context_tokens == CONTEXT_TOKENS < MODEL_TOKENS
        assert policy.model_id == f"policy@127.0.0.1:{stub.port}"
    assert len(stub.bodies("/health")) == 3


async def test_a_server_that_never_starts_is_named_with_its_setting(stub: StubServer, limits: RemoteLimits) -> None:
    stub.script["/health"] = [ILL]
    impatient = dataclasses.replace(limits, start_s=0.0)
    with pytest.raises(RemoteUnavailable, match=rf"{stub.url}.*not well.*correct RSTAR_PPM_URL"):
        await RemoteScorer(
            RemoteAddress(url=stub.url), PathTokens(bundled_tokenizer()), context_tokens=MODEL_TOKENS, limits=impatient
        ).__aenter__()


async def test_of_several_models_one_has_to_be_named(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/v1/models"] = [Answer(content={"data": [card("a"), card("b", max_model_len=99)]})]
    with pytest.raises(RemoteMismatch, match=r"serves a, b; say by name"):
        await engine(stub, limits).__aenter__()
    async with engine(stub, limits, model="b") as policy:
        assert policy.context_tokens == 99
    with pytest.raises(RemoteMismatch, match=r"serves a, b, not c"):
        await engine(stub, limits, model="c").__aenter__()


async def test_an_adapter_is_served_only_when_named(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/v1/models"] = [Answer(content={"data": [card("base"), card("tuned", parent="base")]})]
    async with engine(stub, limits) as policy:
        assert policy.model_id.startswith("base@")
    async with engine(stub, limits, model="tuned") as policy:
        assert policy.model_id.startswith("tuned@")


async def test_a_server_with_another_tokenizer_is_refused(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/detokenize"] = [Answer(content={"prompt": "hello"})]
    with pytest.raises(RemoteMismatch, match=r"reads tokens as 'hello' that say .* here; give as RSTAR_POLICY_MODEL"):
        await engine(stub, limits).__aenter__()


@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/v1/models", Answer(content={"data": [card("a", max_model_len=None)]}), "context length"),
        ("/v1/models", Answer(content={"object": "list"}), "list of objects as data"),
        ("/v1/models", Answer(content={"data": []}), "serves no model"),
        ("/v1/models", Answer(status=401, content={"error": "Unauthorized"}), "set the API key"),
        ("/detokenize", Answer(status=404, content={"detail": "Not Found"}), "/detokenize answered HTTP 404"),
    ],
)
async def test_what_is_no_vllm_server_is_refused(
    stub: StubServer, limits: RemoteLimits, path: str, answer: Answer, message: str
) -> None:
    play_policy(stub)
    stub.script[path] = [answer]
    with pytest.raises((RemoteMismatch, RemoteRefused), match=message):
        await engine(stub, limits).__aenter__()


async def test_one_missed_probe_of_an_idle_server_is_no_fault(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/health"] = [OK, ILL, OK, Drop(), OK]
    async with engine(stub, dataclasses.replace(limits, probe_s=0.001)) as policy:
        while len(stub.bodies("/health")) < 6:
            await stub.until_asked()
            assert policy.fault is None


async def test_an_idle_server_that_dies_is_a_fault_until_it_is_back(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    async with engine(stub, dataclasses.replace(limits, probe_s=0.001)) as policy:
        stub.script["/health"] = [ILL]
        await until(lambda: policy.fault is not None)
        assert "not well" in (policy.fault or "")
        stub.script["/health"] = [OK]
        await until(lambda: policy.fault is None)
    asked = len(stub.asked)
    await asyncio.sleep(0)
    assert len(stub.asked) == asked


async def test_a_server_whose_health_is_unreadable_is_a_fault(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    garbled = Answer(content=b"not gzip", headers={"content-encoding": "gzip"})
    async with engine(stub, dataclasses.replace(limits, probe_s=0.001)) as policy:
        stub.script["/health"] = [garbled]
        await until(lambda: policy.fault is not None)
        assert "cannot be reached" in (policy.fault or "")
        stub.script["/health"] = [OK]
        await until(lambda: policy.fault is None)


async def test_a_server_that_just_answered_is_not_probed(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub, Answer(content={"choices": [choice(0, [30])]}))
    async with engine(stub, dataclasses.replace(limits, probe_s=3600.0)) as policy:
        await policy.policy(SAMPLING).propose(Path(problem="1?"), 1, seed=1)
    assert len(stub.bodies("/health")) == 1  # at the start


async def test_a_failed_call_is_a_fault_until_one_succeeds(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub, *[ILL] * 4, Answer(content={"choices": [choice(0, [30])]}))
    async with engine(stub, limits) as policy:
        with pytest.raises(RemoteUnavailable):
            await policy.policy(SAMPLING).propose(Path(problem="1?"), 1, seed=1)
        assert "answered HTTP 503" in (policy.fault or "")
        assert len(stub.bodies("/v1/completions")) == 4
        await policy.policy(SAMPLING).propose(Path(problem="1?"), 1, seed=1)
        assert policy.fault is None


async def test_a_refused_request_is_no_fault_of_the_server(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub, Answer(status=400, content={}))
    async with engine(stub, limits) as policy:
        with pytest.raises(RemoteRefused):
            await policy.policy(SAMPLING).propose(Path(problem="1?"), 1, seed=1)
        assert policy.fault is None


async def test_cancelling_counts_as_aborted_and_hangs_up(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/v1/completions"] = [Hang()]
    async with engine(stub, limits) as policy, asyncio.TaskGroup() as group:
        stub.arrived.clear()
        call = group.create_task(policy.policy(SAMPLING).propose(Path(problem="1?"), 3, seed=1))
        await stub.until_asked()
        assert policy.stats.running == 3
        call.cancel()
        await stub.until_left()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (policy.stats.requests, policy.stats.aborted, policy.stats.running) == (1, 1, 0)


async def test_leaving_ends_what_is_pending_and_refuses_what_comes(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    stub.script["/v1/completions"] = [Hang()]
    policy = engine(stub, limits)
    async with asyncio.TaskGroup() as group:
        async with policy:
            stub.arrived.clear()
            call = group.create_task(pending(policy))
            await stub.until_asked()
        await stub.until_left()
    assert isinstance(call.result(), EngineClosed)
    assert isinstance(await pending(policy), EngineClosed)


async def pending(policy: PolicyEngine) -> EngineClosed | None:
    try:
        await policy.policy(SAMPLING).propose(Path(problem="1?"), 1, seed=1)
    except EngineClosed as error:
        return error
    return None


async def test_an_engine_that_was_not_entered_says_so(stub: StubServer, limits: RemoteLimits) -> None:
    with pytest.raises(RuntimeError, match="was not entered"):
        await engine(stub, limits).policy(SAMPLING).propose(Path(problem="1?"), 1, seed=1)


async def test_an_engine_may_be_left_in_another_task(stub: StubServer, limits: RemoteLimits) -> None:
    play_policy(stub)
    policy = engine(stub, limits)
    async with asyncio.TaskGroup() as group:
        group.create_task(policy.__aenter__())
    assert policy.fault is None
    await policy.__aexit__(None, None, None)
    assert isinstance(await pending(policy), EngineClosed)


def test_before_it_is_entered_the_model_s_own_context_holds(stub: StubServer, limits: RemoteLimits) -> None:
    assert engine(stub, limits).context_tokens == MODEL_TOKENS
