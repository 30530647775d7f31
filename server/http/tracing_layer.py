"""Tracing layer: continues or begins a trace for each request, and records the request as a span."""

from opentelemetry.trace import Tracer

from server.http.asgi import Application, Message, Receive, Scope, Send, headers_of, is_request, route_of, status_of
from server.observability.tracing import NO_TRACER, request_span


class Traces:
    """An ASGI layer. Without a tracer it records no span."""

    def __init__(self, app: Application, tracer: Tracer = NO_TRACER) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if not is_request(scope):
            await self._app(scope, receive, send)
            return
        method, path = str(scope["method"]), str(scope["path"])
        with request_span(method, path, headers_of(scope), tracer=self._tracer) as recorded:

            async def send_noting_status(message: Message) -> None:
                if (status := status_of(message)) is not None:
                    recorded.set_attribute("http.response.status_code", status)
                await send(message)

            try:
                await self._app(scope, receive, send_noting_status)
            finally:
                if (route := route_of(scope)) is not None:
                    recorded.update_name(f"{method} {route}")
                    recorded.set_attribute("http.route", route)
