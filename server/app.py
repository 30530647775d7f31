"""App: the HTTP application over a solver and its settings. Builds and joins; decides nothing."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from server.openapi_document import complete_document
from server.problem_json import answer_errors_as_problems
from server.request_ids import RequestIds
from server.routes import make_router
from server.settings import Settings
from server.solver import Solver


class _Application(FastAPI):
    """FastAPI with our OpenAPI document."""

    def __init__(self, solver: Solver, settings: Settings) -> None:
        @asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
            async with solver.running():
                yield

        # The interactive pages load scripts from elsewhere; the document itself stays at /openapi.json.
        super().__init__(title="rStar server", lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False)
        self._settings = settings

    def openapi(self) -> dict[str, Any]:
        """See `server.openapi_document`."""
        if self.openapi_schema is None:
            self.openapi_schema = complete_document(super().openapi(), self._settings)
        return self.openapi_schema


def create_app(solver: Solver, settings: Settings) -> FastAPI:
    """The application; its lifespan is the solver's."""
    app = _Application(solver, settings)
    answer_errors_as_problems(app)
    app.include_router(make_router(solver, settings))
    app.add_middleware(RequestIds)
    return app
