"""Routes: the HTTP endpoints. A handler checks, asks the solver, watches the search and answers; it never runs one."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from server.http.layers import client_of
from server.http.openapi import CANCEL_RESPONSES, METRICS_RESPONSES, READYZ_RESPONSES, SOLVE_RESPONSES
from server.http.requests import bounded_route, search_request, watched_response
from server.http.responses import json_bytes, response_body
from server.http.schemas import Cancellation, Health, Models, Readiness, SolveRequest, Version
from server.http.streams import EventStream, SolveFrames
from server.observability.metrics import CONTENT_TYPE
from server.observability.version import running_version
from server.settings.settings import Settings
from server.solving.refusals import Refusal
from server.solving.searches import Watcher, new_search_id
from server.solving.solver import DRAINING, READY, Solver

SOLVE = "/solve"


def make_router(solver: Solver, settings: Settings) -> APIRouter:
    """The endpoints over one solver."""
    router = APIRouter()
    bounded = APIRouter(route_class=bounded_route(settings))

    @bounded.post(SOLVE, response_model=None, responses=SOLVE_RESPONSES)
    async def solve(request: Request, body: SolveRequest) -> Response:
        """Search for the answer to a problem. With `stream` the response is text/event-stream."""
        running = solver.start(
            search_request(body, settings, endpoint=SOLVE),
            search_id=new_search_id(request.state.request_id),
            client=client_of(request.scope),
        )
        watcher = running.watch(events=body.stream)
        if not body.stream:
            return await watched_response(_solved(watcher), watcher, request)
        await running.accepted()  # a refusal has a status of its own, which a stream could not send any more
        return EventStream(watcher, SolveFrames(running, request), heartbeat_s=settings.heartbeat_s)

    @router.post("/solve/{search_id}/cancel", responses=CANCEL_RESPONSES)
    async def cancel(request: Request, search_id: Annotated[str, Path(min_length=1, max_length=256)]) -> Cancellation:
        """End a search. Everyone who waits for it gets its best answer so far. May be repeated.

        The id is that of the search (event `search_started`), or, on a server with API keys, the `X-Request-Id` of the
        request that began it.
        """
        # Without keys a client is only an address, which many may share and one may change.
        client = None if settings.api_keys is None else client_of(request.scope)
        return Cancellation(id=search_id, state=solver.cancel(search_id, client=client))

    @router.get("/healthz")
    @router.get("/health", include_in_schema=False)
    async def healthz() -> Health:
        """The process answers."""
        return Health(status="ok")

    @router.get("/metrics", response_model=None, responses=METRICS_RESPONSES)
    async def metrics() -> Response:
        """Everything that is counted and timed, in Prometheus's text format."""
        return Response(solver.metrics.page(), media_type=CONTENT_TYPE)

    @router.get("/readyz", response_model=Readiness, responses=READYZ_RESPONSES)
    async def readyz() -> Response:
        """Whether every part works and the server is not about to stop, and the state of each part."""
        parts = _states(solver, settings)
        sandbox = None if solver.parts is None else solver.parts.sandbox_status()
        level = None if sandbox is None else sandbox.level
        readiness = Readiness(ready=solver.is_ready, parts=parts, sandbox_level=level)
        status = 200 if readiness.ready else 503
        return Response(json_bytes(readiness.model_dump()), status_code=status, media_type="application/json")

    @router.get("/version")
    async def version() -> Version:
        """The version of the server, and the models that it has loaded."""
        parts = solver.parts
        return Version(
            version=running_version(),
            models=parts and Models(policy=parts.models.policy, ppm=parts.models.ppm),
            confidence_fitted=parts and parts.calibration is not None,
        )

    router.include_router(bounded)
    return router


def _states(solver: Solver, settings: Settings) -> dict[str, str]:
    """The state of each part, and of what else an operator looks for."""
    states = {str(part): state for part, state in solver.states.items()}
    if solver.is_draining:
        states["server"] = DRAINING
    if settings.redis_url is not None and solver.tree_store is not None:
        states["redis"] = solver.tree_store.fault or READY  # the server works without it, so it stays ready
    return states


async def _solved(watcher: Watcher) -> bytes | Refusal:
    ending = await watcher.search.ending()
    return ending if isinstance(ending, Refusal) else await response_body(ending)
