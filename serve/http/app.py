"""The app: routes, the edge around them, health, metrics and the OpenAPI document."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.routing import Route

from serve.http import bodies, problems, routes
from serve.http.edge import Edge
from serve.http.metrics import Metrics
from serve.http.model import CurrentModel, Model
from serve.http.room import Room
from serve.http.settings import Settings

DESCRIPTION = """Recommendations from a bundle of ONNX graphs.

Every answer says the `model_version` that it came from, in its body and in `x-model-version`. Every error
has the shape of `ErrorResponse`. Ids are integers (int64) or strings, as the data has them: `/v1/model` says
which."""


def create_app(settings: Settings, current: CurrentModel) -> FastAPI:
    """The service as an ASGI app.

    Args:
        settings: Limits and the token.
        current: The model that answers; whoever runs the app loads it, before or after the start.

    Returns:
        The app; its `state.room` is for a `Server` that turns away by itself what there is no room for.
    """
    metrics = Metrics()
    if current.model is not None:
        metrics.model_swapped(current.model)
    current.watchers.append(metrics.model_swapped)
    app = FastAPI(
        title="recsys-onnx",
        version="1",
        description=DESCRIPTION,
        # Their pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    problems.install(app)
    app.include_router(routes.router)
    _add_health(app, current)

    @app.get("/metrics", response_class=Response, responses={401: routes.ERRORS[401]})
    async def prometheus(request: Request) -> Response:
        """Counts and latencies in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    known = {
        (method, route.path)
        for route in (*app.routes, *routes.router.routes)
        if isinstance(route, Route | APIRoute)
        for method in route.methods or ()
    }
    app.state.room = Room(settings, current, metrics, known)
    edge = {"settings": settings, "current": current, "metrics": metrics, "room": app.state.room}
    app.add_middleware(Edge, routes=known, **edge)
    if settings.token is not None:
        _document_token(app)
    return app


def _add_health(app: FastAPI, current: CurrentModel) -> None:
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", response_model=bodies.Live)
    async def live() -> Response:
        """The process answers. Asks for no token."""
        return routes.answer({"status": "live"})

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", response_model=bodies.Ready, responses={503: {"model": bodies.Ready}})
    async def ready(request: Request) -> Response:
        """Whether to send requests here: checksums and conformance cases have passed. Asks for no token."""
        model: Model | None = request.state.model
        status = "draining" if current.draining else "loading" if model is None else "ready"
        response = routes.answer(
            {
                "status": status,
                "model_version": None if model is None else model.version,
                "device": None if model is None else model.recommender.device,
            }
        )
        response.status_code = 200 if status == "ready" else 503
        return response


def _document_token(app: FastAPI) -> None:
    """Say in the OpenAPI document that every route but health asks for the token."""
    make_document = app.openapi

    def openapi() -> dict[str, Any]:
        document = make_document()
        document.setdefault("components", {})["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"}
        }
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path.startswith("/health/") else [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
