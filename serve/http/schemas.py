"""What requests and responses look like.

Requests are validated by these classes; of responses they are the documentation.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, StrictBool, StrictInt, WithJsonSchema

MAX_ITEMS = 1000
MAX_TOP_K = 1000
MAX_ID_LENGTH = 256
MAX_QUERY_LENGTH = 200


def _check_id(value: Any) -> int | str:
    if type(value) is int and -(1 << 63) <= value < 1 << 63:
        return value
    if type(value) is str and len(value) <= MAX_ID_LENGTH:
        value.encode()  # half a surrogate pair is no text
        return value
    raise ValueError(f"an id must be an integer (int64) or a string of at most {MAX_ID_LENGTH} characters")


# JSON knows one kind of number, and JavaScript reads it as a double: beyond 2**53 it rounds what it is given.
ID_SCHEMA = {
    "anyOf": [
        {"type": "integer", "format": "int64", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
        {"type": "string", "maxLength": MAX_ID_LENGTH},
    ],
    "description": "An id as the data has it: an integer (int64) or a string, as `/v1/model` says under "
    "`id_types`; never the one for the other. JavaScript clients: `JSON.parse` rounds integers beyond 2**53.",
}
Id = Annotated[int | str, PlainValidator(_check_id), WithJsonSchema(ID_SCHEMA)]
Rating = Annotated[float, Field(strict=True, allow_inf_nan=False)]
TopK = Annotated[
    StrictInt,
    Field(
        ge=1, le=MAX_TOP_K, description="Length of the list; a bundle ranks 100 items unless told otherwise."
    ),
]
Unknown = Annotated[
    Literal["average", "error"],
    Field(description="What an id that is not in the bundle gets: the average one's answer, or a 404."),
]
Version = Annotated[str, Field(description="SHA-256 of the manifest of the bundle that gave this answer.")]


class RequestBody(BaseModel):
    """Unknown fields are refused: a misspelt one would be ignored silently."""

    model_config = ConfigDict(extra="forbid")


class ItemsQuery(RequestBody):
    """The query of `GET /v1/items`."""

    query: str = Field(max_length=MAX_QUERY_LENGTH, description="Words of a title, or an id.")
    limit: int = Field(20, ge=1, le=100)


class RecommendRequest(RequestBody):
    """Whom to recommend to."""

    user_id: Id
    top_k: TopK = 10
    exclude_seen: StrictBool = Field(True, description="Leave out what the user has rated.")
    exclude_item_ids: list[Id] = Field(
        default_factory=list, max_length=MAX_ITEMS, description="More to leave out; unknown ids are no error."
    )
    unknown: Unknown = "average"

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": 42, "top_k": 3}]})


class ScoreRequest(RequestBody):
    """A user, and the items to predict ratings of."""

    user_id: Id
    item_ids: list[Id] = Field(min_length=1, max_length=MAX_ITEMS)
    unknown: Unknown = "average"

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": 42, "item_ids": [1, 6]}]})


class SimilarItemsRequest(RequestBody):
    """The item whose neighbours are wanted."""

    item_id: Id
    top_k: TopK = 10
    unknown: Unknown = "error"

    model_config = ConfigDict(json_schema_extra={"examples": [{"item_id": 1, "top_k": 3}]})


class ItemRating(RequestBody):
    """One rating of somebody new."""

    item_id: Id
    rating: Rating = Field(description="On the scale of the data; `/v1/model` says which.")


class FoldInRequest(RequestBody):
    """The ratings of somebody who is not in the bundle. None gives the average user's list."""

    ratings: list[ItemRating] = Field(max_length=MAX_ITEMS)
    top_k: TopK = 10

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"ratings": [{"item_id": 1, "rating": 5}, {"item_id": 6, "rating": 2.5}], "top_k": 3}
            ]
        }
    )


class RankedItem(BaseModel):
    """One item of a list, best first."""

    item_id: Id
    title: str | None
    score: float = Field(description="A predicted rating; of similar items, the cosine.")


class RecommendResponse(BaseModel):
    """A user's best items."""

    model_version: Version
    user_id: Id
    known: bool = Field(
        description="False: the user is not in the bundle, and this is the average user's list."
    )
    items: list[RankedItem] = Field(description="Shorter than `top_k` only where no more were left.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model_version": "9f2c…",
                    "user_id": 42,
                    "known": True,
                    "items": [{"item_id": 1200, "title": "Aliens (1986)", "score": 4.76}],
                }
            ]
        }
    )


class ScoredItem(BaseModel):
    """One predicted rating, in the order of the request."""

    item_id: Id
    score: float
    known: bool = Field(description="Whether user and item are both in the bundle.")


class ScoreResponse(BaseModel):
    """Predicted ratings of one user."""

    model_version: Version
    user_id: Id
    scores: list[ScoredItem]


class SimilarItemsResponse(BaseModel):
    """The items most like one item."""

    model_version: Version
    item_id: Id
    known: bool
    items: list[RankedItem]


class FoldInResponse(BaseModel):
    """The best items for somebody new."""

    model_version: Version
    items: list[RankedItem]


class FoundItem(BaseModel):
    """What the bundle knows of an item."""

    item_id: Id
    title: str | None
    genres: list[str]
    year: int | None


class ItemsResponse(BaseModel):
    """Items found by title or id."""

    model_version: Version
    items: list[FoundItem]


class ModelResponse(BaseModel):
    """The model's card, from the bundle's manifest."""

    model_version: Version
    device: Literal["cpu", "cuda"]
    kind: str
    n_users: int
    n_items: int
    n_factors: int
    score_range: Annotated[list[float], Field(min_length=2, max_length=2)] | None
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
    """Whether requests should be sent here."""

    status: Literal["ready", "loading", "draining"]
    model_version: str | None
    device: Literal["cpu", "cuda"] | None
    last_error: str | None = Field(
        description="Why the bundle that the pointer leads to does not answer; an earlier one does."
    )


class ErrorDetail(BaseModel):
    """One thing that is wrong with a request."""

    where: str
    message: str


class ErrorBody(BaseModel):
    """What went wrong."""

    id: str = Field(description="Tells this error apart from others; the log repeats that of a 500.")
    code: str
    message: str
    details: list[ErrorDetail]


class ErrorResponse(BaseModel):
    """Every error has this shape."""

    error: ErrorBody

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "id": "5f1d0c9be0a34b12",
                        "code": "unknown_id",
                        "message": "user_id 99999 is not in this bundle (610 are).",
                        "details": [],
                    }
                }
            ]
        }
    )
