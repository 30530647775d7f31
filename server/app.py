"""App: the HTTP application over a solver and its settings, put together.

Layers wrap the routes, from the outside in: request ids, unread bodies, traces, access log, security headers,
CORS and authentication where they are on. They wrap the framework's own handling of errors too, so that they see
every response.
"""

from datetime import UTC, datetime
from functools import cache

from fastapi import FastAPI
from opentelemetry.trace import Tracer
from starlette.types import ASGIApp

from server.http.access import Authentication, Cors
from server.http.errors import answer_errors
from server.http.layers import AccessLog, RequestIds, SecurityHeaders, Traces, UnreadBodies
from server.http.openai.routes import make_openai_router
from server.http.openapi import complete_document
from server.http.routes import make_router
from server.observability.tracing import NO_TRACER
from server.settings.api_keys import read_api_keys
from server.settings.settings import Settings
from server.solving.solver import Solver


def create_app(solver: Solver, settings: Settings, *, tracer: Tracer = NO_TRACER) -> ASGIApp:
    """The application; its lifespan is the solver's. The tracer records each request as a span."""
    # The interactive pages load scripts from elsewhere; the document itself stays at /openapi.json.
    api = FastAPI(
        title="rStar server",
        lifespan=lambda _: solver.running(),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    answer_errors(api)
    api.include_router(make_router(solver, settings))
    api.include_router(make_openai_router(solver, settings, now=lambda: datetime.now(UTC).timestamp()))
    framework_document = api.openapi
    api.openapi = cache(lambda: complete_document(framework_document(), settings))
    return _layered(api, settings, tracer)


def _layered(app: ASGIApp, settings: Settings, tracer: Tracer) -> ASGIApp:
    if settings.api_keys is not None:
        app = Authentication(app, read_api_keys(settings.api_keys.get_secret_value()))
    if settings.cors_origins:
        # Outside authentication: a browser sends preflights without a key, and hides a 401 without CORS headers.
        app = Cors(app, settings.cors_origins)
    app = SecurityHeaders(app)
    if settings.access_log:
        app = AccessLog(app)
    return RequestIds(UnreadBodies(Traces(app, tracer)))
