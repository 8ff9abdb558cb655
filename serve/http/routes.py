"""The routes below /v1: ids in, ids and scores out, from the model that the request has taken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from serve.http import schemas
from serve.http.batching import UserQuery
from serve.http.middleware.admission import RETRY_AFTER_SECONDS
from serve.http.model import LoadedModel
from serve.http.model_card import model_card
from serve.http.problems import Problem
from serve.http.schemas import ErrorResponse
from serve.runtime.rankings import Ranking

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorResponse, "description": "A token is set, and it is not this one."},
    422: {"model": ErrorResponse, "description": "The request can't be answered; `message` says why."},
    500: {"model": ErrorResponse, "description": "The service's own fault; its log has the id."},
    503: {
        "model": ErrorResponse,
        "description": "Overloaded, or still loading.",
        "headers": {
            "Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}},
        },
    },
}
BODY_ERRORS: dict[int | str, dict[str, Any]] = ERRORS | {
    400: {"model": ErrorResponse, "description": "The body is not JSON."},
    404: {"model": ErrorResponse, "description": "An id is not in the bundle, where that is an error."},
    408: {"model": ErrorResponse, "description": "The body came too slowly."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    415: {"model": ErrorResponse, "description": "The body is not application/json."},
}


class JsonRoute(APIRoute):
    """A route whose `body` pydantic reads from the bytes.

    FastAPI's own way, through json.loads and its dependencies, takes as long as the answer itself.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See FastAPI."""
        expected = inspect.signature(self.endpoint, eval_str=True).parameters.get("body")
        if expected is None:
            return super().get_route_handler()
        read: Callable[[bytes], BaseModel] = expected.annotation.model_validate_json
        endpoint: Callable[..., Coroutine[Any, Any, Response]] = self.endpoint

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                given = f"is {kind!r}" if kind else "is not given"
                message = f"The body must be JSON: its content type must be application/json, and {given}."
                raise Problem(415, "unsupported_media_type", message)
            try:
                body = read(await request.body())
            except ValidationError as error:
                raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
            return await endpoint(request, body)

        return handle


PREFIX = "/v1"
NOTHING = np.empty(0, np.int64)

router = APIRouter(prefix=PREFIX, route_class=JsonRoute)


def model_of(request: Request) -> LoadedModel:
    """The model that answers this request, from its start to its end."""
    model: LoadedModel | None = request.state.model
    if model is None:
        headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
        raise Problem(503, "not_ready", "The model is still being loaded.", headers=headers)
    return model


def answer(content: dict[str, Any]) -> Response:
    """A response whose content is known to be right, so it is not validated on its way out."""
    return Response(msgspec.json.encode(content), media_type="application/json")


@router.post("/recommend", response_model=schemas.RecommendResponse, responses=BODY_ERRORS)
async def recommend(request: Request, body: schemas.RecommendRequest) -> Response:
    """The best items for one user."""
    model = model_of(request)
    recommender = model.recommender
    user_index = int(recommender.resolve(body.user_id, body.unknown)[0])
    query = UserQuery(
        user_index,
        recommender.list_length(body.top_k, "recommend"),
        body.exclude_seen,
        recommender.resolve(body.exclude_item_ids, table="item") if body.exclude_item_ids else NOTHING,
    )
    top = await model.batcher.recommend(query)
    return answer(
        {
            "model_version": model.version,
            "user_id": body.user_id,
            "known": user_index > 0,
            "items": _items(model, top.item_ids, top.item_indices, top.scores),
        }
    )


@router.post("/score", response_model=schemas.ScoreResponse, responses=BODY_ERRORS)
async def score(request: Request, body: schemas.ScoreRequest) -> Response:
    """The ratings that a user would give, in the order of the request."""
    model = model_of(request)
    found = await model.compute_in_turn(
        lambda: model.recommender.score(body.user_id, body.item_ids, unknown=body.unknown)
    )
    rows = zip(body.item_ids, found.scores.tolist(), found.known.tolist(), strict=True)
    scores = [{"item_id": item_id, "score": value, "known": known} for item_id, value, known in rows]
    return answer({"model_version": model.version, "user_id": body.user_id, "scores": scores})


@router.post("/similar-items", response_model=schemas.SimilarItemsResponse, responses=BODY_ERRORS)
async def similar_items(request: Request, body: schemas.SimilarItemsRequest) -> Response:
    """The items most like one, by the cosine of their factors."""
    model = model_of(request)
    ranking = await model.compute_in_turn(
        lambda: model.recommender.similar_items(body.item_id, body.top_k, unknown=body.unknown)
    )
    return answer(
        {
            "model_version": model.version,
            "item_id": body.item_id,
            "known": ranking.known,
            "items": _ranked(model, ranking),
        }
    )


@router.post("/fold-in", response_model=schemas.FoldInResponse, responses=BODY_ERRORS)
async def fold_in(request: Request, body: schemas.FoldInRequest) -> Response:
    """The best items for somebody new, from a few ratings. Nothing is trained, nothing is kept."""
    model = model_of(request)
    item_ids = [rating.item_id for rating in body.ratings]
    ratings = [rating.rating for rating in body.ratings]
    ranking = await model.compute_in_turn(lambda: model.recommender.fold_in(item_ids, ratings, body.top_k))
    return answer({"model_version": model.version, "items": _ranked(model, ranking)})


@router.get("/items", response_model=schemas.ItemsResponse, responses=ERRORS)
async def items(request: Request, asked: Annotated[schemas.ItemsQuery, Query()]) -> Response:
    """Items whose title has every word of `query`, those that begin with it first; an id comes before all."""
    model = model_of(request)
    catalogue = model.recommender.items
    found = await model.compute_in_turn(
        lambda: [catalogue[i] for i in catalogue.search(asked.query, asked.limit)]
    )
    listed = [
        {"item_id": item.item_id, "title": item.title, "genres": item.genres, "year": item.year}
        for item in found
    ]
    return answer({"model_version": model.version, "items": listed})


@router.get("/model", response_model=schemas.ModelResponse, responses=ERRORS)
async def model(request: Request) -> Response:
    """What is served: sizes, data and its terms, quality, types of ids."""
    return answer(model_card(model_of(request)))


def _ranked(model: LoadedModel, ranking: Ranking) -> list[dict[str, Any]]:
    n = ranking.count
    parts = (ranking.item_ids, ranking.item_indices, ranking.scores)
    return _items(model, *(part[:n].tolist() for part in parts))


def _items(
    model: LoadedModel, item_ids: list[Any], item_indices: list[int], scores: list[float]
) -> list[Any]:
    """The items of one list, best first."""
    titles = model.titles
    return [
        {"item_id": item_id, "title": titles[index], "score": score}
        for item_id, index, score in zip(item_ids, item_indices, scores, strict=True)
    ]
