"""The routes below /v1: ids in, ids and scores out, from the model that the request started with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, get_type_hints

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.errors import SeenLeftOutError
from serve.http import schemas
from serve.http.batching import NOTHING, UserList, UserQuery
from serve.http.middleware.admission import RETRY_AFTER_SECONDS
from serve.http.model import LoadedModel
from serve.http.parsing import from_body, from_query
from serve.http.problems import Problem
from serve.http.schemas import ErrorResponse
from serve.runtime.rankings import Ranking
from serve.runtime.reasons import Reasons
from serve.runtime.rules import Rules
from serve.runtime.variety import Variety

ERRORS: dict[int | str, dict[str, Any]] = {
    401: {"model": ErrorResponse, "description": "The token is missing or wrong."},
    422: {"model": ErrorResponse, "description": "The request can't be answered; `message` says why."},
    500: {"model": ErrorResponse, "description": "A fault of the service; its log has the id."},
    503: {
        "model": ErrorResponse,
        "description": "Overloaded, or still loading.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
}
BODY_ERRORS: dict[int | str, dict[str, Any]] = ERRORS | {
    400: {"model": ErrorResponse, "description": "The body is not JSON."},
    404: {"model": ErrorResponse, "description": "An id is not in the bundle, and `unknown` is error."},
    408: {"model": ErrorResponse, "description": "The body took too long to arrive."},
    413: {"model": ErrorResponse, "description": "The body is too large."},
    415: {"model": ErrorResponse, "description": "The body is not application/json, or compressed."},
}


class JsonRoute(APIRoute):
    """A route that calls its endpoint with the model, and with its `body` or `asked` (a query) if it has one.

    FastAPI's own parsing, through json.loads and its dependencies, takes as long as the answer itself; here
    FastAPI only documents the endpoint.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        schema_of = get_type_hints(endpoint)
        body_schema, query_schema = schema_of.get("body"), schema_of.get("asked")

        async def respond(scope: Scope, receive: Receive, send: Send) -> None:
            parsed: dict[str, Any] = {}
            if query_schema is not None:
                parsed["asked"] = from_query(scope["query_string"], query_schema)
            elif scope["query_string"]:
                from_query(scope["query_string"], schemas.NoQuery)
            if body_schema is not None:
                body = (await receive()).get("body", b"")  # the whole of it: see BodyLimit
                parsed["body"] = from_body(scope["headers"], body, body_schema)
            response: Response = await endpoint(current_model(Request(scope)), **parsed)
            await response(scope, receive, send)

        self.app = respond


def current_model(request: Request) -> LoadedModel:
    """The model that answers this request. Raises Problem: it is still being loaded."""
    model: LoadedModel | None = request.scope["state"]["model"]
    if model is None:
        headers = {"retry-after": str(RETRY_AFTER_SECONDS)}
        raise Problem(503, "not_ready", "The model is still being loaded.", headers)
    return model


def answer(content: dict[str, Any], status: int = 200) -> Response:
    """A JSON response, which is not validated."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


PREFIX = "/v1"
router = APIRouter(prefix=PREFIX, route_class=JsonRoute)
Model = Annotated[LoadedModel, Depends(current_model)]


@router.post("/recommend", response_model=schemas.RecommendResponse, responses=BODY_ERRORS)
async def recommend(model: Model, body: schemas.RecommendRequest) -> Response:
    """The best items for one user."""
    recommender = model.recommender
    if body.exclude_seen and recommender.manifest.without_seen:
        raise SeenLeftOutError  # before it joins the requests of others
    user_index = int(recommender.resolve(body.user_id, body.unknown)[0])
    rules, variety = _rules(body), _variety(body)
    if rules is not None or variety is not None or body.explain:  # not batched: each has its own
        found = await model.compute_in_turn(
            lambda: recommender.recommend(
                body.user_id,
                body.top_k,
                exclude_seen=body.exclude_seen,
                exclude_item_ids=body.exclude_item_ids,
                rules=rules,
                variety=variety,
                reasons=body.explain,
            ),
            is_long=variety is not None or body.explain,
        )
        top, reasons = _user_list(found), found.reasons
    else:
        reasons = None
        query = UserQuery(
            user_index,
            recommender.list_length(body.top_k, "recommend"),
            body.exclude_seen,
            recommender.resolve(body.exclude_item_ids, table="item") if body.exclude_item_ids else NOTHING,
        )
        top = await model.batcher.recommend(query)
    known = user_index > 0
    return answer(
        {
            "model_version": model.version,
            "user_id": body.user_id,
            "known": known,
            "graph": top.graph,
            "items": _rated_items(model, top, reasons),
        }
    )


@router.post("/score", response_model=schemas.ScoreResponse, responses=BODY_ERRORS)
async def score(model: Model, body: schemas.ScoreRequest) -> Response:
    """The scores of the given items for one user, in the order of the request."""
    found = await model.compute_in_turn(
        lambda: model.recommender.score(body.user_id, body.item_ids, unknown=body.unknown)
    )
    rows = zip(body.item_ids, found.scores.tolist(), found.known.tolist(), strict=True)
    scores = [{"item_id": item_id, "score": value, "known": known} for item_id, value, known in rows]
    return answer({"model_version": model.version, "user_id": body.user_id, "scores": scores})


@router.post("/similar-items", response_model=schemas.SimilarItemsResponse, responses=BODY_ERRORS)
async def similar_items(model: Model, body: schemas.SimilarItemsRequest) -> Response:
    """The items most similar to one, by the cosine of their factors."""
    found = await model.compute_in_turn(
        lambda: model.recommender.similar_items(body.item_id, body.top_k, unknown=body.unknown)
    )
    items = _items(model, _user_list(found))
    return answer(
        {"model_version": model.version, "item_id": body.item_id, "known": found.known, "items": items}
    )


@router.post("/fold-in", response_model=schemas.FoldInResponse, responses=BODY_ERRORS)
async def fold_in(model: Model, body: schemas.FoldInRequest) -> Response:
    """The best items for a new user, from a few ratings. Nothing is trained or stored."""
    item_ids = [rating.item_id for rating in body.ratings]
    ratings = [rating.rating for rating in body.ratings]
    rules, variety = _rules(body), _variety(body)
    found = await model.compute_in_turn(
        lambda: model.recommender.fold_in(
            item_ids, ratings, body.top_k, rules=rules, variety=variety, reasons=body.explain
        ),
        is_long=variety is not None or body.explain,
    )
    items = _rated_items(model, _user_list(found), found.reasons)
    return answer({"model_version": model.version, "items": items})


@router.get("/items", response_model=schemas.ItemsResponse, responses=ERRORS)
async def items(model: Model, asked: Annotated[schemas.ItemsQuery, Query()]) -> Response:
    """Items by title or id: an equal id first, then titles that begin with `query`, then the others."""
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
async def model_card(model: Model) -> Response:
    """The model card: sizes, data and its licence, quality, types of ids."""
    return answer(model.card())


def _rules(body: schemas.RecommendRequest | schemas.FoldInRequest) -> Rules | None:
    return None if body.rules is None else Rules(**body.rules.model_dump())


def _variety(body: schemas.RecommendRequest | schemas.FoldInRequest) -> Variety | None:
    return None if body.variety is None else Variety(**body.variety.model_dump())


def _user_list(found: Ranking) -> UserList:
    n = found.count
    return UserList(
        found.item_ids[:n].tolist(),
        found.item_indices[:n].tolist(),
        found.scores[:n].tolist(),
        None if found.ratings is None else found.ratings[:n].tolist(),
        found.graph,
    )


def _items(model: LoadedModel, found: UserList) -> list[dict[str, Any]]:
    """The items of one list, best first."""
    titles = model.titles
    return [
        {"item_id": item_id, "title": titles[index], "score": score}
        for item_id, index, score in zip(found.item_ids, found.item_indices, found.scores, strict=True)
    ]


def _rated_items(model: LoadedModel, found: UserList, reasons: Reasons | None = None) -> list[dict[str, Any]]:
    """The same with predicted ratings, or null; and with reasons, if there are some."""
    items = _items(model, found)
    ratings: Sequence[float | None] = found.ratings or [None] * len(items)
    for place, (item, rating) in enumerate(zip(items, ratings, strict=True)):
        if reasons is not None:
            item["reasons"] = reasons.described(place)
        item["rating"] = rating
    return items
