"""Tracing: headers that are accepted and passed on, and spans that reach a collector."""

import asyncio
import importlib
import re
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import Any, TypeVar

import pytest
from opentelemetry.trace import StatusCode, Tracer

from server.engines.remote.client import RemoteAddress, RemoteClient
from server.observability.tracing import (
    NO_TRACER,
    TelemetryMissing,
    current_request_id,
    current_trace_id,
    exporting_tracer,
    is_recorded,
    outgoing_headers,
    outgoing_trace,
    request_span,
    span,
)
from tests.server.engines.remote.stub_server import Answer, stub_server
from tests.server.observability.recorded_spans import RecordedSpans, attributes_of, id_of, parent_of
from tests.server.observability.trace_collector import Collector, collecting

Result = TypeVar("Result")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def in_request(
    work: Callable[[], Result], *headers: tuple[str, str], path: str = "/solve", tracer: Tracer = NO_TRACER
) -> Result:
    """What `work` returns inside a request with these headers."""

    def request() -> Result:
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        with request_span("POST", path, pairs, tracer=tracer):
            return work()

    return copy_context().run(request)


def passed_on(*headers: tuple[str, str]) -> dict[str, str]:
    """The trace headers that an engine gets for a request with these headers."""
    return in_request(outgoing_trace, *headers)


def test_a_valid_context_is_passed_on_as_it_was() -> None:
    state = "vendor=a:1,other@sys=b c"
    assert passed_on(("traceparent", PARENT), ("tracestate", state)) == {"traceparent": PARENT, "tracestate": state}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + "-more",
        PARENT + " x",
        f"ff-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0x",
        f"00_{TRACE}_{SPAN}_01",
        f"01-{TRACE}-{SPAN}-01.more",
        f"00-{TRACE}-{SPAN}-01ü",
        "x" * 1000,
    ],
)
def test_a_malformed_parent_begins_a_new_trace(parent: str) -> None:
    headers = passed_on(("traceparent", parent), ("tracestate", "a=b"))
    assert set(headers) == {"traceparent"}
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", headers["traceparent"])
    assert TRACE not in headers["traceparent"]


@pytest.mark.parametrize(
    "headers", [[], [("tracestate", "a=b")], [("traceparent", PARENT), ("traceparent", PARENT)]], ids=str
)
def test_no_parent_or_two_begin_a_new_trace(headers: Sequence[tuple[str, str]]) -> None:
    first, second = passed_on(*headers), passed_on(*headers)
    assert (set(first), TRACE in first["traceparent"]) == ({"traceparent"}, False)
    assert first != second


@pytest.mark.parametrize("parent", [f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what.the-future-brings"])
def test_a_later_version_is_read_as_far_as_it_is_known(parent: str) -> None:
    assert passed_on(("traceparent", parent)) == {"traceparent": PARENT}


def test_unknown_flags_are_not_passed_on() -> None:
    assert passed_on(("traceparent", f" 00-{TRACE}-{SPAN}-ff\t"))["traceparent"].endswith("-03")


@pytest.mark.parametrize(
    ("states", "kept"),
    [
        (["a=1", "b=2"], "a=1,b=2"),
        (["a=1 , ,b=2,"], "a=1,b=2"),
        (["a=1=2"], None),
        (["a=1,a=2"], None),
        (["A=1"], None),
        (["a"], None),
        (["a="], None),
        (["a=ü"], None),
        (["1a=1"], None),
        (["1a@v=1"], "1a@v=1"),
        ([",".join(f"k{number}=v" for number in range(32))], ",".join(f"k{number}=v" for number in range(32))),
        ([",".join(f"k{number}=v" for number in range(33))], None),
        ([f"a={'x' * 257}"], None),
        ([",".join(f"k{number}={'x' * 256}" for number in range(32))], None),
    ],
)
def test_a_state_is_passed_on_whole_or_not_at_all(states: list[str], kept: str | None) -> None:
    headers = passed_on(("traceparent", PARENT), *(("tracestate", state) for state in states))
    assert (headers["traceparent"], headers.get("tracestate")) == (PARENT, kept)


async def test_every_task_of_a_request_passes_its_id_and_trace_on() -> None:
    passed: list[dict[str, str]] = []

    async def call_engine() -> None:
        passed.append(outgoing_headers())

    async def request() -> None:
        current_request_id.set("mine")
        with request_span("POST", "/solve", [(b"traceparent", PARENT.encode())]):
            async with asyncio.TaskGroup() as group:
                for _ in range(2):
                    group.create_task(call_engine())

    async with asyncio.TaskGroup() as group:
        group.create_task(request())
    first, second = passed
    assert first["traceparent"] == second["traceparent"] == PARENT
    assert re.fullmatch(r"mine-[0-9a-f]{8}", first["x-request-id"])
    assert first["x-request-id"] != second["x-request-id"]


def test_the_trace_id_of_a_request_is_the_one_passed_on() -> None:
    assert in_request(current_trace_id, ("traceparent", PARENT)) == TRACE
    own, headers = in_request(lambda: (current_trace_id(), outgoing_headers()))
    assert headers == {"traceparent": headers["traceparent"]}
    assert own == headers["traceparent"].split("-")[1]


def test_outside_a_request_there_is_no_trace() -> None:
    with span("nothing", {"rstar.depth": 1}) as nothing:
        nothing.set_attribute("rstar.tokens", 1)
        assert (outgoing_headers(), current_trace_id(), is_recorded()) == ({}, None, False)


def test_the_trace_stays_known_after_the_request() -> None:
    def request() -> str | None:
        with suppress(ZeroDivisionError), request_span("POST", "/solve", [(b"traceparent", PARENT.encode())]):
            raise ZeroDivisionError
        return current_trace_id()

    assert copy_context().run(request) == TRACE


def test_spans_nest_and_engines_get_the_innermost() -> None:
    recorded = RecordedSpans()
    passed: list[dict[str, str]] = []

    def work() -> None:
        with span("search", {"rstar.strategy": "mcts"}) as searching:
            with span("policy"):
                passed.append(outgoing_trace())
            with span("ppm"):
                pass
            searching.set_attribute("rstar.trajectories", 3)

    in_request(work, ("traceparent", PARENT), ("tracestate", "a=b"), tracer=recorded.tracer)
    request, search, policy, ppm = recorded.spans
    assert recorded.names == ["POST", "search", "policy", "ppm"]
    assert request.parent is not None
    assert f"{request.parent.trace_id:032x}-{request.parent.span_id:016x}" == f"{TRACE}-{SPAN}"
    assert [request.kind.name, search.kind.name] == ["SERVER", "INTERNAL"]
    assert [parent_of(taken) for taken in (search, policy, ppm)] == [id_of(request), id_of(search), id_of(search)]
    assert attributes_of(search) == {"rstar.strategy": "mcts", "rstar.trajectories": 3}
    innermost = f"00-{TRACE}-{id_of(policy):016x}-01"
    assert passed == [{"traceparent": innermost, "tracestate": "a=b"}]
    assert {taken.status.status_code for taken in recorded.spans} == {StatusCode.UNSET}


@pytest.mark.parametrize(
    ("error", "status", "attributes"),
    [
        (ZeroDivisionError("what a problem says"), StatusCode.ERROR, {"error.type": "ZeroDivisionError"}),
        (KeyboardInterrupt(), StatusCode.ERROR, {"error.type": "KeyboardInterrupt"}),
        (asyncio.CancelledError(), StatusCode.UNSET, {"rstar.cancelled": True}),
    ],
    ids=["failed", "interrupted", "cancelled"],
)
def test_a_span_says_how_its_block_failed(
    error: BaseException, status: StatusCode, attributes: dict[str, object]
) -> None:
    recorded = RecordedSpans()

    def work() -> None:
        with span("policy"):
            raise error

    with pytest.raises(type(error)):
        in_request(work, tracer=recorded.tracer)
    request, policy = recorded.spans
    assert [taken.status.status_code for taken in (request, policy)] == [status, status]
    assert attributes_of(policy) == attributes
    assert attributes.items() <= attributes_of(request).items()
    assert all(taken.status.description is None and not taken.events for taken in recorded.spans)


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health", "/metrics"])
def test_probes_are_not_recorded(path: str) -> None:
    recorded = RecordedSpans()

    def work() -> bool:
        with span("nothing"):
            return is_recorded()

    assert not in_request(work, path=path, tracer=recorded.tracer)
    assert not in_request(work, ("traceparent", PARENT), path=path, tracer=recorded.tracer)
    assert recorded.spans == []


def test_what_the_client_does_not_sample_is_not_recorded() -> None:
    recorded = RecordedSpans()
    unsampled = PARENT.removesuffix("01") + "00"
    headers = in_request(outgoing_trace, ("traceparent", unsampled), tracer=recorded.tracer)
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", headers["traceparent"])
    own = in_request(outgoing_trace, tracer=recorded.tracer)
    assert own["traceparent"][-1] in "13"  # sampled
    assert len(recorded.spans) == 1


async def test_calls_to_a_remote_engine_carry_trace_and_request_id() -> None:
    async with stub_server() as stub:
        stub.script["/x"] = [Answer(status=503, content={}), Answer(content={"a": 1})]
        address = RemoteAddress(url=stub.url, api_key="secret", headers=outgoing_headers)

        async def no_sleep(_: float) -> None:
            pass

        async def request() -> None:
            current_request_id.set("mine")
            with request_span("POST", "/solve", [(b"traceparent", PARENT.encode())]):
                async with RemoteClient(address, sleep=no_sleep) as client:
                    await client.post("/x", {})

        async with asyncio.TaskGroup() as group:
            group.create_task(request())
    assert [asked.headers["traceparent"] for asked in stub.asked] == [PARENT, PARENT]
    assert {asked.headers["authorization"] for asked in stub.asked} == {"Bearer secret"}
    ids = [asked.headers["x-request-id"] for asked in stub.asked]
    assert len(set(ids)) == 2
    assert all(request_id.startswith("mine-") for request_id in ids)
    assert "headers" not in repr(address)


def test_a_missing_extra_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # The exporter is imported by this name; other tests may have imported its parents before.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    refused = pytest.raises(TelemetryMissing, match=r"RSTAR_OTLP_ENDPOINT is set, .* install the extra otel")
    with refused, exporting_tracer("http://127.0.0.1:1", version="1"):
        raise AssertionError


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Generator[Collector]:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    with collecting() as collector:
        yield collector


def _received(collector: Collector) -> tuple[dict[str, str], list[Any]]:
    """The attributes of the service, and the spans in the order of their ends."""
    messages = importlib.import_module("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    (path, body), *others = collector.bodies
    assert (path, others) == ("/v1/traces", [])
    (resource,) = messages.ExportTraceServiceRequest.FromString(body).resource_spans
    service = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    return service, list(resource.scope_spans[0].spans)


@pytest.mark.parametrize("path", ["", "/v1/traces"])
def test_spans_reach_the_collector_below_the_clients(collector: Collector, path: str) -> None:
    def work() -> None:
        with span("policy", {"rstar.candidates": 8}):
            raise ZeroDivisionError("what a problem says")

    with exporting_tracer(collector.url + path, version="1.2.3") as tracer, suppress(ZeroDivisionError):
        in_request(work, ("traceparent", PARENT), tracer=tracer)
    service, (policy, post) = _received(collector)
    assert (service["service.name"], service["service.version"]) == ("rstar-server", "1.2.3")
    assert {policy.trace_id.hex(), post.trace_id.hex()} == {TRACE}
    assert (post.name, post.parent_span_id.hex()) == ("POST", SPAN)
    assert (policy.name, policy.parent_span_id, policy.status.code) == ("policy", post.span_id, 2)
    assert {attribute.key for attribute in policy.attributes} == {"rstar.candidates", "error.type"}
    assert b"what a problem says" not in collector.bodies[0][1]


def test_the_operators_name_for_the_service_wins(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "maths")
    with exporting_tracer(collector.url, version="1") as tracer:
        in_request(current_trace_id, tracer=tracer)
    assert _received(collector)[0]["service.name"] == "maths"
