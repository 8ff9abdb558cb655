"""The schemas of requests and responses. Requests are validated; responses are only documented."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StrictBool,
    StrictInt,
    WithJsonSchema,
)

from serve.bundle.item_rules import MAX_NUMBERS
from serve.reading.cells import parse_integer
from serve.reading.limits import MAX_ID_LENGTH

MAX_ITEMS = 1000


def _check_id(value: Any) -> int | str:
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value
    if type(value) is str and len(value) <= MAX_ID_LENGTH:
        value.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
        return value
    raise ValueError(f"an id must be an integer (int64) or a string of at most {MAX_ID_LENGTH} characters")


def _decimal(text: str) -> int:
    number = parse_integer(text)
    if number is None:
        raise ValueError("it must be a whole number in plain digits")
    return number


ID_SCHEMA = {
    "anyOf": [
        {"type": "integer", "format": "int64", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
        {"type": "string", "maxLength": MAX_ID_LENGTH},
    ],
    "description": "An integer (int64) or a string, as `/v1/model` says under `id_types`; 42 is not '42'. "
    "JavaScript's `JSON.parse` rounds integers beyond 2**53.",
}
Id = Annotated[int | str, PlainValidator(_check_id), WithJsonSchema(ID_SCHEMA)]
Rating = Annotated[
    float, Field(strict=True, allow_inf_nan=False, description="On the scale of the data: see `/v1/model`.")
]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
TopK = Annotated[
    StrictInt,
    Field(
        ge=1, description="Length of the list; at most what the bundle ranks, `largest_top_k` of `/v1/model`."
    ),
]
Explain = Annotated[
    StrictBool,
    Field(description="Give each item its `reasons`; needs a bundle of `recsys export --explain`."),
]
Unknown = Annotated[
    Literal["average", "error"],
    Field(
        description="What an id that is not in the bundle gets: the average user's or item's answer, or 404."
    ),
]


def _example(**values: Any) -> ConfigDict:
    # Unknown fields are refused, because a misspelt one would be ignored silently.
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [values]})


class ItemsQuery(BaseModel):
    """The query of `GET /v1/items`."""

    query: str = Field(max_length=MAX_ID_LENGTH, description="Words of a title, or an id.")
    limit: Annotated[int, BeforeValidator(_decimal)] = Field(20, ge=1, le=100)
    model_config = ConfigDict(extra="forbid")


class NoQuery(BaseModel):
    """The query of every other route."""

    model_config = ConfigDict(extra="forbid")


class RulesRequest(BaseModel):
    """Rules that all listed items obey; the bundle needs graphs with rules (`recsys export --filtered`)."""

    allow: list[Id] | None = Field(
        None, min_length=1, max_length=MAX_ITEMS, description="Ids of the only items to list; null: all."
    )
    deny: list[Id] = Field([], max_length=MAX_ITEMS, description="Ids of items not to list.")
    categories: list[str] = Field(
        [], max_length=MAX_ITEMS, description="A listed item has one of these genres."
    )
    not_categories: list[str] = Field([], max_length=MAX_ITEMS, description="And none of these.")
    min_ratings: StrictInt | None = Field(None, description="Training ratings of a listed item, at least.")
    max_ratings: StrictInt | None = Field(None, description="At most.")
    min_year: StrictInt | None = Field(
        None, description="Its first year; an item without a year is not listed."
    )
    max_year: StrictInt | None = Field(None, description="Its last year.")
    numbers: dict[str, tuple[Number | None, Number | None]] = Field(
        {},
        max_length=MAX_NUMBERS,
        description="The least and the largest of further numbers of the items, by name; null: any.",
    )
    model_config = ConfigDict(extra="forbid")


class VarietyRequest(BaseModel):
    """How a list differs from the best items in order; `serve.Variety`."""

    diversity: Number = Field(0, ge=0, le=1, description="Of being unlike the items above.")
    surprise: Number = Field(
        0, ge=-1, le=1, description="Towards items that few know; below 0, towards the familiar."
    )
    max_per_category: StrictInt | None = Field(
        None,
        ge=1,
        lt=1 << 31,
        description="Items of one genre, as long as others are left.",
    )
    model_config = ConfigDict(extra="forbid")


class RecommendRequest(BaseModel):
    """A user."""

    user_id: Id
    top_k: TopK = 10
    exclude_seen: StrictBool = Field(True, description="Exclude the items that the user has rated.")
    exclude_item_ids: list[Id] = Field(
        [], max_length=MAX_ITEMS, description="Further items to exclude; unknown ids are ignored."
    )
    rules: RulesRequest | None = None
    variety: VarietyRequest | None = None
    explain: Explain = False
    unknown: Unknown = "average"
    model_config = _example(user_id=42, top_k=3)


class ScoreRequest(BaseModel):
    """A user, and the items to score."""

    user_id: Id
    item_ids: list[Id] = Field(min_length=1, max_length=MAX_ITEMS)
    unknown: Unknown = "average"
    model_config = _example(user_id=42, item_ids=[1, 6])


class SimilarItemsRequest(BaseModel):
    """An item."""

    item_id: Id
    top_k: TopK = 10
    unknown: Unknown = "error"
    model_config = _example(item_id=1, top_k=3)


class ItemRating(BaseModel):
    """One rating of a new user."""

    item_id: Id
    rating: Rating
    model_config = ConfigDict(extra="forbid")


class FoldInRequest(BaseModel):
    """The ratings of a user who is not in the bundle; none gives the average user's list."""

    ratings: list[ItemRating] = Field(max_length=MAX_ITEMS)
    top_k: TopK = 10
    rules: RulesRequest | None = None
    variety: VarietyRequest | None = None
    explain: Explain = False
    model_config = _example(ratings=[{"item_id": 1, "rating": 5}, {"item_id": 6, "rating": 2.5}], top_k=3)


class RankedItem(BaseModel):
    """One item of a list, best first."""

    item_id: Id
    title: str | None
    score: float = Field(description="What orders the list; of similar items, the cosine.")


class RatingReason(BaseModel):
    """A rating of the user that raises an item's score."""

    item_id: Id
    title: str | None
    rating: float
    contribution: float = Field(description="What it adds to the score, in the score's unit.")


class ItemReasons(BaseModel):
    """How an item's score follows from the user's ratings."""

    because: list[RatingReason] = Field(description="The ratings that add most, at most three.")
    rest: float = Field(description="What belongs to no rating.")
    explained_score: float = Field(
        description="`rest` and what all ratings add: a new user's score. That of a known user, "
        "by a trained row, is near."
    )


class RecommendedItem(RankedItem):
    """One item of a user's list, best first."""

    reasons: ItemReasons | None = Field(None, description="Only there if `explain` is true.")

    rating: float | None = Field(
        description="The predicted rating, on the scale of the data; null where nothing predicts ratings."
    )


class ScoredItem(BaseModel):
    """One score, in the order of the request."""

    item_id: Id
    score: float = Field(description="What it means: `scores` of `/v1/model`.")
    known: bool = Field(description="Whether user and item are both in the bundle.")


class FoundItem(BaseModel):
    """An item of the bundle."""

    item_id: Id
    title: str | None
    genres: list[str]
    year: int | None


class Answer(BaseModel):
    """An answer of a model."""

    model_version: str = Field(description="SHA-256 of the manifest of the bundle that gave this answer.")


class FoldInResponse(Answer):
    """The best items for a new user."""

    items: list[RecommendedItem] = Field(description="Shorter than `top_k` only if no more items are left.")


class RecommendResponse(FoldInResponse):
    """A user's best items."""

    user_id: Id
    known: bool = Field(description="False: not in the bundle; this is the average user's list.")
    graph: Literal["recommend", "recommend_fast", "recommend_filtered", "merge"] = Field(
        description="What ranked: recommend_fast may miss an item at the end of a list; merge: shards."
    )


class SimilarItemsResponse(Answer):
    """The items most similar to one item."""

    item_id: Id
    known: bool
    items: list[RankedItem] = Field(description="Shorter than `top_k` only if no more items are left.")


class ScoreResponse(Answer):
    """Scores for one user."""

    user_id: Id
    scores: list[ScoredItem]


class ItemsResponse(Answer):
    """Items found by title or id."""

    items: list[FoundItem]


class ModelPart(BaseModel):
    """One fitted model."""

    kind: str
    objective: Literal["ratings", "ranking"]
    weight: float = Field(description="Of its scores in lists; 0: it does not order them.")


class ModelResponse(Answer):
    """The model card, from the bundle's manifest."""

    device: Literal["cpu", "cuda"]
    kind: str
    n_users: int
    n_items: int
    n_factors: int
    score_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None
    scores: Literal["ratings", "ranking"] = Field(
        description="What the scores of `/v1/score` are: predicted ratings, or numbers that order items."
    )
    lists: Literal["ratings", "ranking"] = Field(
        description="What orders lists: predicted ratings, or scores that mean nothing else."
    )
    parts: list[ModelPart] = Field(description="The models that the bundle is made of.")
    data: dict[str, Any]
    id_types: dict[str, Literal["integer", "string"]]
    split: dict[str, Any]
    metrics: dict[str, Any]
    largest_top_k: dict[str, int]
    conformance_cases: int


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"]


class Ready(BaseModel):
    """Whether to send requests here."""

    status: Literal["ready", "loading", "draining"]
    model_version: str | None
    device: Literal["cpu", "cuda"] | None
    last_error: str | None = Field(description="Why the newest bundle is not the one that answers.")


class ErrorDetail(BaseModel):
    """One invalid field of a request."""

    where: str
    message: str


class ErrorBody(BaseModel):
    """What is wrong."""

    id: str = Field(description="Identifies this error; a 500 has it in the log too.")
    code: str
    message: str
    details: list[ErrorDetail]


class ErrorResponse(BaseModel):
    """The shape of every error."""

    error: ErrorBody
