"""What the manifest of a bundle says of changes to it that trained nothing."""

from __future__ import annotations

import msgspec


class ListRows(msgspec.Struct, frozen=True, kw_only=True):
    """How new items were placed in a part that ranks: by the half-step of implicit ALS on users' rows."""

    unobserved_weight: float
    """Of the square of any user's score."""
    regularization: float
    """Of the row, relative to the mean squared length of the users' rows."""
    scale: float
    """The row is multiplied by it."""
    confidence: tuple[float, float] | None
    """As in `manifest.RankingPart`; None: the value of a rating does not matter."""
    error: float
    """Of known items, placed by up to 20 raters: squared error of all users' scores over their squares."""


class Addition(msgspec.Struct, frozen=True, kw_only=True):
    """Items that were added to a bundle without training."""

    base_version: str
    """SHA-256 of the manifest of the bundle that they were added to."""
    data: str
    """Name of the file of ratings."""
    data_sha256: str
    item_ids: list[int | str]
    """The new items, in index order; they follow those of the base."""
    n_item_ratings: list[int]
    """Ratings that each of them was folded in from."""
    n_unknown_users: int
    """Ratings left out because their user is not in the bundle."""
    n_items_left_out: int
    """New items that only such users have rated."""
    n_known_items: int
    """Ratings left out because their item was in the bundle already."""
    regularization: float | None
    """Of the ridge regression that gave the rows of the part that predicts ratings; None: there is none."""
    left_out_rmse: float | None
    """RMSE (ratings) of each rating, predicted from the others of its item; None with too few."""
    list_rows: dict[str, ListRows] = {}
    """Kind of each part that ranks -> how its new rows were made."""


class Forgotten(msgspec.Struct, frozen=True, kw_only=True):
    """Users who were taken out of a bundle. It does not say who they were."""

    base_version: str
    """SHA-256 of the manifest of the bundle that they were taken out of."""
    n_users: int
