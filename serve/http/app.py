"""The app: routes, the middleware around them, health, metrics and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response
from starlette.routing import Route

from serve.http import problems, routes, schemas
from serve.http.middleware.admission import Admission
from serve.http.middleware.body_limit import BodyLimit
from serve.http.middleware.error_shape import ErrorShape
from serve.http.middleware.host_check import HostCheck
from serve.http.middleware.observation import Observation
from serve.http.middleware.token import TokenCheck
from serve.http.model import CurrentModel, LoadedModel
from serve.http.settings import ServiceSettings

DESCRIPTION = """Recommendations from a bundle of ONNX graphs.

Every answer says the `model_version` that it came from, in its body and in `x-model-version`. Every error
has the shape of `ErrorResponse`. Ids are integers (int64) or strings, as the data has them: `/v1/model` says
which."""


HEALTH = ("/health/live", "/health/ready")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: ServiceSettings, current: CurrentModel, lifespan: Lifespan | None = None) -> FastAPI:
    """The service as an ASGI app.

    Args:
        settings: Limits, the token, the names that it answers to.
        current: The model that answers; whoever runs the app loads it, before or after the start.
        lifespan: Runs around the app: at its start and its end.
    """
    app = FastAPI(
        title="recsys-onnx",
        version="1",
        description=DESCRIPTION,
        # Their pages load scripts from elsewhere; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    problems.install(app)
    app.include_router(routes.router)
    _add_health(app, current)

    @app.get("/metrics", response_class=Response, responses={401: routes.ERRORS[401]})
    async def prometheus(request: Request) -> Response:
        """Counts and latencies in Prometheus' text format."""
        return Response(current.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    # The last one is the outermost.
    app.add_middleware(
        Admission,
        limit=settings.max_concurrency,
        prefix=f"{routes.PREFIX}/",
        on_refusal=current.metrics.shed,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)
    app.add_middleware(TokenCheck, token=settings.token, open_paths=HEALTH)
    app.add_middleware(HostCheck, allowed=settings.allowed_hosts)
    app.add_middleware(ErrorShape, is_stopping=lambda: current.is_leaving)
    paths = [route.path for route in (*app.routes, *routes.router.routes) if isinstance(route, Route)]
    app.add_middleware(Observation, current=current, paths=paths)
    if settings.token is not None:
        _document_token(app)
    return app


def _add_health(app: FastAPI, current: CurrentModel) -> None:
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", response_model=schemas.Live)
    async def live() -> Response:
        """The process answers. Asks for no token."""
        return routes.answer({"status": "live"})

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", response_model=schemas.Ready, responses={503: {"model": schemas.Ready}})
    async def ready(request: Request) -> Response:
        """Whether to send requests here: checksums and conformance cases have passed. Asks for no token."""
        model: LoadedModel | None = request.state.model
        status = "draining" if current.is_draining() else "loading" if model is None else "ready"
        response = routes.answer(
            {
                "status": status,
                "model_version": None if model is None else model.version,
                "device": None if model is None else model.recommender.device,
                "last_error": current.last_error,
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
                operation["security"] = [] if path in HEALTH else [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
