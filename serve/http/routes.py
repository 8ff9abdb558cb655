"""The routes below /v1: ids in, ids and scores out, from the model that the request has taken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from serve.errors import UnknownIdError
from serve.http import bodies
from serve.http.batcher import Ask
from serve.http.bodies import ErrorResponse
from serve.http.model import Model, card
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
            try:
                body = read(await request.body())
            except ValidationError as error:
                raise RequestValidationError(error.errors(include_url=False, include_context=False)) from None
            return await endpoint(request, body)

        return handle


router = APIRouter(prefix="/v1", route_class=JsonRoute)


def model_of(request: Request) -> Model:
    """The model that answers this request, from its start to its end."""
    model: Model = request.state.model
    return model


def answer(content: dict[str, Any]) -> Response:
    """A response whose content is known to be right, so it is not validated on its way out."""
    return Response(msgspec.json.encode(content), media_type="application/json")


@router.post("/recommend", response_model=bodies.RecommendResponse, responses=BODY_ERRORS)
async def recommend(request: Request, body: bodies.RecommendRequest) -> Response:
    """The best items for one user."""
    model = model_of(request)
    recommender = model.recommender
    user_index = recommender.users.lookup_one(body.user_id)
    if not user_index and body.unknown == "error":
        n = recommender.manifest.model.n_users
        raise UnknownIdError(f"user_id {body.user_id!r} is not in this bundle ({n} are).")
    ask = Ask(
        user_index,
        recommender.list_length(body.top_k, "recommend"),
        body.exclude_seen,
        recommender.items.ids.lookup(body.exclude_item_ids) if body.exclude_item_ids else None,
    )
    top = await model.batcher.recommend(ask)
    return answer(
        {
            "model_version": model.version,
            "user_id": body.user_id,
            "known": user_index > 0,
            "items": _items(model, top.item_ids, top.item_indices, top.scores),
        }
    )


@router.post("/score", response_model=bodies.ScoreResponse, responses=BODY_ERRORS)
async def score(request: Request, body: bodies.ScoreRequest) -> Response:
    """The ratings that a user would give, in the order of the request."""
    model = model_of(request)
    found = await model.compute_in_turn(
        lambda: model.recommender.score(body.user_id, body.item_ids, unknown=body.unknown)
    )
    rows = zip(body.item_ids, found.scores.tolist(), found.known.tolist(), strict=True)
    scores = [{"item_id": item_id, "score": value, "known": known} for item_id, value, known in rows]
    return answer({"model_version": model.version, "user_id": body.user_id, "scores": scores})


@router.post("/similar-items", response_model=bodies.SimilarItemsResponse, responses=BODY_ERRORS)
async def similar_items(request: Request, body: bodies.SimilarItemsRequest) -> Response:
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


@router.post("/fold-in", response_model=bodies.FoldInResponse, responses=BODY_ERRORS)
async def fold_in(request: Request, body: bodies.FoldInRequest) -> Response:
    """The best items for somebody new, from a few ratings. Nothing is trained, nothing is kept."""
    model = model_of(request)
    item_ids = [rating.item_id for rating in body.ratings]
    ratings = [rating.rating for rating in body.ratings]
    ranking = await model.compute_in_turn(lambda: model.recommender.fold_in(item_ids, ratings, body.top_k))
    return answer({"model_version": model.version, "items": _ranked(model, ranking)})


@router.get("/items", response_model=bodies.ItemsResponse, responses=ERRORS)
async def items(request: Request, asked: Annotated[bodies.ItemsQuery, Query()]) -> Response:
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


@router.get("/model", response_model=bodies.ModelResponse, responses=ERRORS)
async def model(request: Request) -> Response:
    """What is served: sizes, data and its terms, quality, types of ids."""
    return answer(card(model_of(request)))


def _ranked(model: Model, ranking: Ranking) -> list[dict[str, Any]]:
    n = ranking.count
    parts = (ranking.item_ids, ranking.item_indices, ranking.scores)
    return _items(model, *(part[:n].tolist() for part in parts))


def _items(model: Model, item_ids: list[Any], item_indices: list[int], scores: list[float]) -> list[Any]:
    """The items of one list, best first."""
    titles = model.titles
    return [
        {"item_id": item_id, "title": titles[index], "score": score}
        for item_id, index, score in zip(item_ids, item_indices, scores, strict=True)
    ]
