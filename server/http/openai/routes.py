"""Routes: OpenAI's endpoints. They start the same searches as `POST /solve`, with the same limits, and watch them."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from server.http.layers import client_of
from server.http.openai.openapi import CHAT_RESPONSES, MODEL_RESPONSES, MODELS_RESPONSES
from server.http.openai.requests import check_model, has_unused_messages, solve_request
from server.http.openai.responses import ChatFrames, Reply, completion
from server.http.openai.schemas import ChatRequest, Model, ModelList
from server.http.requests import bounded_route, search_request, watched_response
from server.http.streams import EventStream
from server.settings.settings import Settings
from server.solving.searches import RunningSearch, new_search_id
from server.solving.solver import Solver

CHAT = "/v1/chat/completions"
OWNER = "rstar"


def make_openai_router(solver: Solver, settings: Settings, *, now: Callable[[], float]) -> APIRouter:
    """The endpoints over one solver; `now` gives the seconds since 1970."""
    router = APIRouter()
    bounded = APIRouter(route_class=bounded_route(settings))
    model = Model(id=settings.served_model_name, created=int(now()), owned_by=OWNER)

    @bounded.post(CHAT, response_model=None, responses=CHAT_RESPONSES)
    async def chat_completions(request: Request, body: ChatRequest) -> Response:
        """Search for the answer to the problem of the user messages. With `stream` the response is an event stream."""
        check_model(body.model, served=model.id)
        running = solver.start(
            search_request(solve_request(body), settings, endpoint=CHAT),
            search_id=new_search_id(request.state.request_id),
            client=client_of(request.scope),
        )
        reply = _reply(body, running, solver, created=int(now()))
        watcher = running.watch(events=True)
        if body.stream:
            await running.accepted()  # a refusal has a status of its own, which a stream could not send any more
            return EventStream(watcher, ChatFrames(reply), heartbeat_s=settings.heartbeat_s)
        return await watched_response(completion(watcher, reply), watcher, request)

    @router.get("/v1/models", responses=MODELS_RESPONSES)
    async def models() -> ModelList:
        """The models that requests may name: one, whatever policy and PPM are behind it."""
        return ModelList(data=[model])

    @router.get("/v1/models/{name:path}", responses=MODEL_RESPONSES)
    async def model_named(name: Annotated[str, Path(max_length=256)]) -> Model:
        """One model."""
        check_model(name, served=model.id)
        return model

    router.include_router(bounded)
    return router


def _reply(body: ChatRequest, running: RunningSearch, solver: Solver, *, created: int) -> Reply:
    assert solver.parts is not None  # else the search would have been refused
    models = solver.parts.models
    trajectories = running.request.budget.trajectories
    return Reply(
        search_id=running.id,
        created=created,
        model=body.model,
        fingerprint=f"{models.policy}+{models.ppm}",
        trajectories=trajectories,
        stops=body.stop or (),
        tells_unused=has_unused_messages(body),
        includes_usage=bool(body.stream_options and body.stream_options.include_usage),
    )
