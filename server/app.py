"""App: the HTTP application over a solver and its settings. Builds and joins; decides nothing.

Around the routes lie layers, from the outside in: request ids, unread bodies, traces, access log, security headers,
CORS where it is on, authentication. All of them lie around the framework's own handling of errors too, so no response
gets past them.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from opentelemetry.trace import Tracer
from starlette.types import ASGIApp

from server.http.access_log import AccessLog
from server.http.api_keys import read_api_keys
from server.http.asgi import Application
from server.http.authentication import Authentication
from server.http.cors import Cors
from server.http.openapi_document import complete_document
from server.http.problem_json import answer_errors_as_problems, refuse
from server.http.request_ids import RequestIds
from server.http.routes import make_router
from server.http.security_headers import SecurityHeaders
from server.http.tracing_layer import Traces
from server.http.unread_bodies import UnreadBodies
from server.observability.tracing import NO_TRACER
from server.settings.settings import Settings
from server.solving.solver import Solver


class _Application(FastAPI):
    """FastAPI with our OpenAPI document and our layers."""

    def __init__(self, solver: Solver, settings: Settings, tracer: Tracer) -> None:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
            async with solver.running():
                yield

        # The interactive pages load scripts from elsewhere; the document itself stays at /openapi.json.
        super().__init__(title="rStar server", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
        self._settings = settings
        self._tracer = tracer

    def openapi(self) -> dict[str, Any]:
        """See `server.http.openapi_document`."""
        if self.openapi_schema is None:
            self.openapi_schema = complete_document(super().openapi(), self._settings)
        return self.openapi_schema

    def build_middleware_stack(self) -> ASGIApp:
        """The framework's own, inside ours."""
        return _layered(super().build_middleware_stack(), self._settings, self._tracer)


def create_app(solver: Solver, settings: Settings, *, tracer: Tracer = NO_TRACER) -> FastAPI:
    """The application; its lifespan is the solver's. The tracer records each request as a span."""
    app = _Application(solver, settings, tracer)
    answer_errors_as_problems(app)
    app.include_router(make_router(solver, settings))
    return app


def _layered(app: Application, settings: Settings, tracer: Tracer) -> Application:
    keys = None if settings.api_keys is None else read_api_keys(settings.api_keys.get_secret_value())
    app = Authentication(app, keys, refuse=refuse)
    if settings.cors_origins:
        # Outside authentication: a browser asks for permission without a key, and shows pages no 401 that lacks it.
        app = Cors(app, settings.cors_origins, refuse=refuse)
    app = SecurityHeaders(app)
    if settings.access_log:
        app = AccessLog(app)
    return RequestIds(UnreadBodies(Traces(app, tracer)))
