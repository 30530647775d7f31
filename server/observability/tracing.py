"""Tracing: the request that a task works for, its place in a trace, and its spans.

OpenTelemetry keeps the context of each task. Without a collector its tracer records nothing, and the client's context
goes on to the engines as it came. No tracer is installed for the whole process: it lies in the context of each request,
so that the spans of other libraries, of vLLM for example, do not reach our collector.
"""

import secrets
from asyncio import CancelledError
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import cast

from opentelemetry.context import Context, attach, create_key, get_value, set_value
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    format_trace_id,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from search import Call, PolicyCall, RunnerCall, ScorerCall

REQUEST_ID = "x-request-id"
TRACE_HEADERS = ("traceparent", "tracestate")
UNTRACED = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
"""Paths of probes, which come every few seconds and are always the same."""

SERVICE = "rstar-server"
EXPORT_S = 5.0
"""The time limit for sending one batch of spans. An unreachable collector delays the server's end by as much."""

current_request_id: ContextVar[str | None] = ContextVar("current_request_id", default=None)
"""The id of the request that this task works for. Tasks inherit it from the task that creates them."""

NO_TRACER = NoOpTracer()
_TRACER = create_key("tracer")
_W3C = TraceContextTextMapPropagator()
_KNOWN_FLAGS = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID
"""The W3C recommendation forbids to pass other flags on."""
_TRACES_PATH = "/v1/traces"


class TelemetryMissing(Exception):
    """A collector is named, but the library that sends spans is not installed."""


@contextmanager
def request_span(
    method: str, path: str, headers: Sequence[tuple[bytes, bytes]], *, tracer: Tracer = NO_TRACER
) -> Generator[Span]:
    """Continue the client's trace, or begin one, and record the block as the span of a request. Probes get no span.

    The names of the headers are in lower case. The task keeps the trace after the block: the server logs the exception
    of a request only later, in the same task.
    """
    used = NO_TRACER if path in UNTRACED else tracer
    attributes: dict[str, AttributeValue] = {
        "http.request.method": method,
        "url.path": path,
        "rstar.request_id": current_request_id.get() or "",
    }
    recorded = used.start_span(method, _client_context(headers), SpanKind.SERVER, attributes)
    if not recorded.get_span_context().is_valid:  # neither the client nor a tracer began a trace
        ids = SpanContext(secrets.randbits(128), secrets.randbits(64), is_remote=False)
        recorded = NonRecordingSpan(ids)
    attach(set_value(_TRACER, used, set_span_in_context(recorded)))
    with _ending(recorded):
        yield recorded


@contextmanager
def span(name: str, attributes: Mapping[str, AttributeValue] | None = None) -> Generator[Span]:
    """Record the block as part of the request that this task works for."""
    tracer = cast("Tracer", get_value(_TRACER) or NO_TRACER)
    recorded = tracer.start_span(name, attributes=attributes)
    with use_span(recorded, record_exception=False, set_status_on_exception=False), _ending(recorded):
        yield recorded


@asynccontextmanager
async def tracing_calls(call: Call) -> AsyncGenerator[None]:
    """A listener that records each call as a span: `policy`, `ppm` or `sandbox`."""
    match call:
        case PolicyCall():
            with span("policy", {"rstar.candidates": call.n, "rstar.depth": len(call.path.steps)}) as recorded:
                yield
                recorded.set_attribute("rstar.tokens", sum(len(candidate.token_ids) for candidate in call.result))
        case ScorerCall():
            with span("ppm", {"rstar.paths": len(call.paths)}):
                yield
        case RunnerCall():
            with span("sandbox") as recorded:
                yield
                recorded.set_attribute("rstar.outcome", call.result.outcome)
        case _:
            yield


@contextmanager
def _ending(recorded: Span) -> Generator[None]:
    """End the span after the block. Notes an exception that ends the block, and lets it pass."""
    try:
        yield
    except CancelledError:
        # A cancelled call has not failed: every deadline cancels rollouts.
        recorded.set_attribute("rstar.cancelled", True)
        raise
    except BaseException as error:
        # The type only: the text may quote a problem.
        recorded.set_attribute("error.type", type(error).__name__)
        recorded.set_status(StatusCode.ERROR)
        raise
    finally:
        recorded.end()


def _client_context(headers: Sequence[tuple[bytes, bytes]]) -> Context:
    """The context that the headers name. It is empty if they name none, more than one, or a malformed one."""
    values = {
        wanted: b",".join(value for name, value in headers if name == wanted.encode()).decode("latin-1")
        for wanted in TRACE_HEADERS
    }
    client = get_current_span(_W3C.extract(values, Context())).get_span_context()
    flags = TraceFlags(client.trace_flags & _KNOWN_FLAGS)
    parent = SpanContext(client.trace_id, client.span_id, True, flags, client.trace_state)
    return set_span_in_context(NonRecordingSpan(parent), Context())


def is_recorded() -> bool:
    """Whether a tracer records the spans of this task."""
    return get_current_span().is_recording()


def current_trace_id() -> str | None:
    """The trace id of the request that this task works for."""
    current = get_current_span().get_span_context()
    return format_trace_id(current.trace_id) if current.is_valid else None


def outgoing_trace() -> dict[str, str]:
    """Headers that put another server's work below this task's span."""
    headers: dict[str, str] = {}
    _W3C.inject(headers)
    return headers


def outgoing_request_id() -> str | None:
    """An id for a request to an engine, made on behalf of the request that this task works for."""
    request_id = current_request_id.get()
    # One search calls an engine many times at once, and an engine may expect distinct ids.
    return None if request_id is None else f"{request_id}-{secrets.token_hex(4)}"


def outgoing_headers() -> dict[str, str]:
    """The headers of such a request: its id and the trace."""
    request_id = outgoing_request_id()
    return outgoing_trace() if request_id is None else {**outgoing_trace(), REQUEST_ID: request_id}


@contextmanager
def exporting_tracer(endpoint: str, *, version: str) -> Generator[Tracer]:
    """A tracer that sends its spans to the collector at `endpoint`, in the background.

    Leaving sends the remaining spans. Raises `TelemetryMissing` if the extra `otel` is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise TelemetryMissing(
            f"RSTAR_OTLP_ENDPOINT is set, but OpenTelemetry is not installed ({error}); install the extra otel"
        ) from None
    resource = Resource.create({"service.version": version})
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, which OpenTelemetry's tools set, win over our name.
    if str(resource.attributes["service.name"]).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": SERVICE}))
    url = endpoint if endpoint.endswith(_TRACES_PATH) else endpoint + _TRACES_PATH
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=url, timeout=EXPORT_S)))
    try:
        yield provider.get_tracer(SERVICE)
    finally:
        provider.shutdown()
