"""The ASGI app: routes, middleware, health, metrics and the OpenAPI document."""

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

Every answer has the `model_version` that it comes from, in its body and in `x-model-version`. Every error
has the shape of `ErrorResponse`. Ids are integers (int64) or strings, as in
the data; `/v1/model` says which."""

HEALTH = ("/health/live", "/health/ready")
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(settings: ServiceSettings, current: CurrentModel, lifespan: Lifespan | None = None) -> FastAPI:
    """The service as an ASGI app; the caller loads the `current` model, before or after the start."""
    app = FastAPI(
        title="recsys-onnx",
        version="1",
        description=DESCRIPTION,
        # These pages load scripts from other sites; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # looked up for each request
        lifespan=lifespan,
        # `include_router` would match each request twice.
        routes=list(routes.router.routes),
        exception_handlers=problems.HANDLERS,
    )
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
        on_refusal=current.metrics.shed.inc,
    )
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes, seconds=settings.body_seconds)
    if settings.token is not None:
        app.add_middleware(TokenCheck, token=settings.token, open_paths=HEALTH)
        _document_token(app)
    app.add_middleware(HostCheck, allowed=settings.allowed_hosts)
    app.add_middleware(ErrorShape, is_stopping=lambda: current.is_leaving)
    paths = [route.path for route in app.routes if isinstance(route, Route)]
    app.add_middleware(Observation, current=current, paths=paths)
    return app


def _add_health(app: FastAPI, current: CurrentModel) -> None:
    @app.head("/health/live", include_in_schema=False)
    @app.get("/health/live", response_model=schemas.Live)
    async def live() -> Response:
        """The process answers. Needs no token."""
        return routes.answer({"status": "live"})

    @app.head("/health/ready", include_in_schema=False)
    @app.get("/health/ready", response_model=schemas.Ready, responses={503: {"model": schemas.Ready}})
    async def ready(request: Request) -> Response:
        """Whether to send requests here: a checked bundle answers. Needs no token."""
        model: LoadedModel | None = request.state.model
        status = "draining" if current.is_draining() else "loading" if model is None else "ready"
        content = {
            "status": status,
            "model_version": model and model.version,
            "device": model and model.recommender.device,
            "last_error": current.last_error,
        }
        return routes.answer(content, 200 if status == "ready" else 503)


def _document_token(app: FastAPI) -> None:
    """Add the token to the OpenAPI document, for every route but health."""
    make_document = app.openapi

    def openapi() -> dict[str, Any]:
        document = make_document()
        document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        for path, operations in document["paths"].items():
            for operation in operations.values():
                operation["security"] = [] if path in HEALTH else [{"token": []}]
        return document

    app.openapi = openapi  # type: ignore[method-assign]
