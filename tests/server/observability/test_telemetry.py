"""Telemetry: what reaches a collector, and the refusal where the extra is not installed."""

import importlib
import sys
from asyncio import CancelledError
from collections.abc import Generator
from typing import Any

import pytest

from server.observability.telemetry import TelemetryMissing, recording
from server.observability.trace_context import SAMPLED, read_trace_context
from tests.server.observability.trace_collector import Collector, collecting

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Generator[Collector]:
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


def test_without_the_extra_a_collector_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    # Asked for by this name; its parents may have been imported by others before.
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    refused = pytest.raises(TelemetryMissing, match=r"RSTAR_OTLP_ENDPOINT is set, .* install the extra otel")
    with refused, recording("http://127.0.0.1:1", version="1"):
        raise AssertionError


@pytest.mark.parametrize("path", ["", "/v1/traces"])
def test_spans_reach_the_collector_with_the_clients_trace_above_them(collector: Collector, path: str) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    above = read_trace_context([(b"traceparent", PARENT.encode()), (b"tracestate", b"a=b")])
    with recording(collector.url + path, version="1.2.3") as recorder:
        request = recorder.start("POST", parent=above, attributes={"url.path": "/solve"}, is_request=True)
        call = recorder.start("policy", parent=request.context, attributes={"rstar.candidates": 8})
        call.note({"rstar.tokens": 5})
        call.end(ZeroDivisionError("what a problem says"))
        request.rename("POST /solve")
        request.end()
        assert request.context.state == "a=b"
    service, (policy, post) = _received(collector)
    assert (service["service.name"], service["service.version"]) == ("rstar-server", "1.2.3")
    assert {policy.trace_id.hex(), post.trace_id.hex()} == {TRACE}
    assert (post.name, post.parent_span_id.hex(), post.span_id.hex()) == (
        *("POST /solve", "b7ad6b7169203331", request.context.span_id),
    )
    assert (policy.name, policy.parent_span_id) == ("policy", post.span_id)
    assert {attribute.key for attribute in policy.attributes} == {"rstar.candidates", "rstar.tokens", "error.type"}
    assert b"what a problem says" not in collector.bodies[0][1]


def test_a_trace_of_our_own_begins_recorded_and_what_the_client_does_not_sample_is_not(collector: Collector) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with recording(collector.url, version="1") as recorder:
        own = recorder.start("POST", parent=None, attributes={}, is_request=True)
        own.end()
        assert own.context.flags & SAMPLED
        unsampled = read_trace_context([(b"traceparent", PARENT.removesuffix("01").encode() + b"00")])
        other = recorder.start("POST", parent=unsampled, attributes={}, is_request=True)
        other.end()
        assert other.context.trace_id == TRACE
        assert not other.context.flags & SAMPLED
    _, spans = _received(collector)
    assert [span.span_id.hex() for span in spans] == [own.context.span_id]


def test_the_operators_name_for_the_service_wins(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "maths")
    with recording(collector.url, version="1") as recorder:
        recorder.start("POST", parent=None, attributes={}).end()
    assert _received(collector)[0]["service.name"] == "maths"


def test_a_call_that_was_cancelled_is_no_error(collector: Collector) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    with recording(collector.url, version="1") as recorder:
        for error in (None, CancelledError(), ZeroDivisionError()):
            recorder.start("policy", parent=None, attributes={}).end(error)
    _, (ended, cancelled, failed) = _received(collector)
    assert [span.status.code for span in (ended, cancelled, failed)] == [0, 0, 2]  # unset, unset, error
    assert [(one.key, one.value.bool_value) for one in cancelled.attributes] == [("rstar.cancelled", True)]
    assert [one.key for one in failed.attributes] == ["error.type"]
