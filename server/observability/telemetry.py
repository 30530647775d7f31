"""Telemetry: records spans with OpenTelemetry and sends them to a collector, in the background.

The only module that knows the library, which is an extra: imported when a recorder is opened, and not before.
"""

import importlib
from asyncio import CancelledError
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from server.observability.trace_context import TraceContext
from server.observability.tracing import Attribute, RecordedSpan

SERVICE = "rstar-server"
_TRACES_PATH = "/v1/traces"
_EXPORT_S = 5.0
"""For one batch; a collector that takes longer loses it. Also what an unreachable one adds to the server's end."""


class TelemetryMissing(Exception):
    """A collector is named, but the library that would send to it is not installed."""


class OtelRecorder:
    """Spans through a tracer of OpenTelemetry."""

    def __init__(self, provider: Any) -> None:
        self._tracer = provider.get_tracer(SERVICE)
        self._api = importlib.import_module("opentelemetry.trace")
        self._no_context = importlib.import_module("opentelemetry.context").Context()

    def start(
        self, name: str, *, parent: TraceContext | None, attributes: Mapping[str, Attribute], is_request: bool = False
    ) -> RecordedSpan:
        """See `server.observability.tracing.Recorder`."""
        kind = self._api.SpanKind.SERVER if is_request else self._api.SpanKind.INTERNAL
        above = self._api.INVALID_SPAN_CONTEXT if parent is None else self._span_context(parent, is_remote=is_request)
        # Named by itself: what is current to OpenTelemetry is of no account.
        context = self._api.set_span_in_context(self._api.NonRecordingSpan(above), self._no_context)
        span = self._tracer.start_span(name, context=context, kind=kind, attributes=attributes)
        return _OtelSpan(span, self._api, state="" if parent is None else parent.state)

    def _span_context(self, place: TraceContext, *, is_remote: bool) -> Any:
        return self._api.SpanContext(
            trace_id=int(place.trace_id, 16),
            span_id=int(place.span_id, 16),
            is_remote=is_remote,
            trace_flags=self._api.TraceFlags(place.flags),
            trace_state=self._api.TraceState.from_header([place.state] if place.state else []),
        )


class _OtelSpan:
    def __init__(self, span: Any, api: Any, *, state: str) -> None:
        self._span = span
        self._api = api
        own = span.get_span_context()
        self.context = TraceContext(
            trace_id=f"{own.trace_id:032x}", span_id=f"{own.span_id:016x}", flags=int(own.trace_flags), state=state
        )

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, attributes: Mapping[str, Attribute]) -> None:
        self._span.set_attributes(attributes)

    def end(self, error: BaseException | None = None) -> None:
        if isinstance(error, CancelledError):
            # A call that nobody needs any more has not failed: rollouts are cut off at every deadline.
            self._span.set_attribute("rstar.cancelled", True)
        elif error is not None:
            # The kind only: the text may hold a problem.
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(self._api.StatusCode.ERROR)
        self._span.end()


@contextmanager
def recording(endpoint: str, *, version: str) -> Generator[OtelRecorder]:
    """Send spans to the collector at `endpoint`; leaving sends what is left. Raises `TelemetryMissing`."""
    try:
        exporters = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        sdk = importlib.import_module("opentelemetry.sdk.trace")
        export = importlib.import_module("opentelemetry.sdk.trace.export")
        resources = importlib.import_module("opentelemetry.sdk.resources")
    except ImportError as error:
        raise TelemetryMissing(
            f"RSTAR_OTLP_ENDPOINT is set, but OpenTelemetry is not installed ({error}); install the extra otel"
        ) from None
    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, which every tool around OpenTelemetry sets, win over these.
    detected = resources.Resource.create({"service.version": version})
    named = resources.Resource({"service.name": SERVICE})
    is_named = not str(detected.attributes["service.name"]).startswith("unknown_service")
    url = endpoint if endpoint.endswith(_TRACES_PATH) else endpoint + _TRACES_PATH
    provider = sdk.TracerProvider(resource=detected if is_named else detected.merge(named), shutdown_on_exit=False)
    provider.add_span_processor(export.BatchSpanProcessor(exporters.OTLPSpanExporter(endpoint=url, timeout=_EXPORT_S)))
    try:
        yield OtelRecorder(provider)
    finally:
        provider.shutdown()
