"""A table of ratings and a catalogue of items -> `Interactions`."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.duplicates import group_pairs
from recsys.data.feature_files import FeatureTable, Whose
from recsys.data.interactions import Interactions
from recsys.data.items import series
from recsys.data.ratings_table import RatingsTable
from recsys.data.refusals import SHOWN
from recsys.errors import DataError
from serve.reading.limits import MAX_ID_LENGTH

log = logging.getLogger(__name__)

_COUNTED = {"error": "latest", "last": "latest", "mean": "mean"}
"""Policy on duplicates -> the rating that counts; "error" leaves those of merged items."""


def assemble(
    table: RatingsTable,
    catalogue: pd.DataFrame | None,
    known_users: pd.DataFrame | None,
    name: str,
    sha256: str,
    licence: str,
    *,
    item_key: str,
    duplicates: str,
    features: Mapping[Whose, FeatureTable],
) -> Interactions:
    """Turn ids into indices, apply the policy on duplicates, and list the users and the items.

    Repeated pairs without ratings are no contradiction, and always count once.

    `catalogue` is a frame as `items.catalogue` returns it, or None; `known_users` has `user_id` and features,
    or is None; `features` are further ones of "users" and of "items". For the rest see `load`.

    Raises:
        DataError: an id that is too long to be asked for; repeated pairs under the policy "error"; items
            without a title, or without a catalogue, under the key "title"; a catalogue of none of the rated
            items; features of nothing that is here,
            or under a name that is taken.
    """
    listed = None
    if catalogue is not None:
        ids = catalogue["item_id"]
        listed = pa.Array.from_pandas(ids, type=pa.string() if ids.dtype == "str" else pa.int64())
    user_ids, user_index = encode(table.user_ids)
    item_ids, item_index = encode(table.item_ids, listed)
    for column, ids in (("user", user_ids), ("item", item_ids)):
        _check_lengths(f"{name}: {column} id", ids)
    if listed is not None:
        _check_listed(name, item_ids, item_index, listed)
    users = _described(pd.DataFrame({"user_id": series(user_ids)}), known_users)
    items = _described(pd.DataFrame({"item_id": series(item_ids)}), catalogue)
    if "users" in features:
        users = features["users"].joined(users)
    if "items" in features:
        items = features["items"].joined(items)
    pairs = group_pairs(user_index, item_index, table.timestamps)
    if pairs and duplicates == "error" and not table.implicit:
        table.refuse(
            np.flatnonzero(pairs.counts[pairs.pair] > 1),
            "share their user and item with another one",
            "Keep one of each, or choose --duplicates last (the latest counts) or mean",
        )
    if item_key == "title":
        items, title_index = _by_title(items, table.name)
        item_index = title_index[item_index]
        pairs = group_pairs(user_index, item_index, table.timestamps)
    ratings, timestamps = table.ratings, table.timestamps
    if pairs:
        counted = (
            "each pair counts once" if table.implicit else f"of each pair the {_COUNTED[duplicates]} counts"
        )
        log.warning(
            f"{table.name}: {len(ratings):,} rows have {len(pairs.last):,} pairs of user and item: {counted}"
        )
        ratings = pairs.mean_ratings(ratings) if duplicates == "mean" else ratings[pairs.last]
        user_index, item_index = user_index[pairs.last], item_index[pairs.last]
        timestamps = None if timestamps is None else timestamps[pairs.last]
    return Interactions(
        name=name,
        sha256=sha256,
        licence=licence,
        item_key=item_key,
        users=users,
        items=items,
        user_index=user_index,
        item_index=item_index,
        ratings=ratings,
        timestamps=timestamps,
        implicit=table.implicit,
    )


def encode(values: pa.ChunkedArray, more: pa.Array | None = None) -> tuple[pa.Array, np.ndarray]:
    """Give every id its index: its rank, from 1, among all distinct ids in sorted order.

    Integers sort by value, strings by code point. Values are int64 or string [n], without nulls; `more` are
    further ids that get an index. If one of the two holds strings, all ids become strings.

    Returns:
        The distinct ids, ascending; and the index of each value, int32 [n].
    """
    if more is not None and more.type != values.type:
        values, more = values.cast(pa.string()), more.cast(pa.string())
    encoded = values.dictionary_encode().unify_dictionaries()
    distinct = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], values.type)
    ids = distinct if more is None else pc.unique(pa.concat_arrays([distinct, more]))
    ids = ids.take(pc.array_sort_indices(ids))
    rank = pc.index_in(distinct, value_set=ids).to_numpy() + np.int32(1)
    index = np.empty(len(values), np.int32)
    start = 0
    for chunk in encoded.chunks:  # joined, they would take another 4 bytes per rating
        np.take(rank, chunk.indices.to_numpy(), out=index[start : start + len(chunk)])
        start += len(chunk)
    return ids, index


def _check_lengths(what: str, ids: pa.Array) -> None:
    """Raise DataError for an id that no command or service would take."""
    if pa.types.is_string(ids.type) and (longest := pc.max(pc.utf8_length(ids)).as_py() or 0) > MAX_ID_LENGTH:
        first = ids.filter(pc.greater(pc.utf8_length(ids), MAX_ID_LENGTH))[0].as_py()
        raise DataError(
            f"{what}s have up to {longest:,} characters, and at most {MAX_ID_LENGTH:,} can be asked for: "
            f"{first[:40]}…. Shorten them, by a number or a hash."
        )


def _check_listed(name: str, item_ids: pa.Array, item_index: np.ndarray, listed: pa.Array) -> None:
    """Log a warning about rated items that the catalogue lacks. Raise DataError: it lacks all of them."""
    rated = item_ids.take(pa.array(np.unique(item_index) - 1))
    missing = rated.filter(pc.invert(pc.is_in(rated, value_set=listed.cast(rated.type))))
    if not len(missing):
        return
    if len(missing) == len(rated) and len(listed):
        raise DataError(
            f"{name}: the file of items has none of the {len(rated):,} rated ones: its ids are like "
            f"{listed[0].as_py()!r}, those of the ratings like {rated[0].as_py()!r}. Write both in one way, "
            f"or take the file out."
        )
    shown = ", ".join(map(repr, missing[:SHOWN].to_pylist()))
    log.warning(
        f"{name}: {len(missing):,} of {len(rated):,} rated items are not in the file of items, and have no "
        f"titles: {shown}"
    )


def _described(table: pd.DataFrame, known: pd.DataFrame | None) -> pd.DataFrame:
    """Users or items in order, with those columns of `known` in which something is known."""
    if known is None:
        return table
    name = table.columns[0]
    known = known.assign(**{name: known[name].astype(table[name].dtype)})
    return table.merge(known, on=name, how="left", validate="one_to_one").dropna(axis="columns", how="all")


def _by_title(items: pd.DataFrame, file: str) -> tuple[pd.DataFrame, np.ndarray]:
    """Items merged by title, and int32 [n_items + 1]: the new index of each old one."""
    if "title" not in items:
        raise DataError(f"{file}: items have no titles here. Key them by id.")
    untitled = items["title"].isna() | (items["title"] == "")
    if untitled.any():
        first = ", ".join(map(repr, items["item_id"][untitled].head(5).tolist()))
        raise DataError(f"{file}: {untitled.sum():,} items have no title: {first}. Key them by id.")
    titles, index = encode(pa.chunked_array([pa.Array.from_pandas(items["title"], type=pa.string())]))
    _, first_row = np.unique(index, return_index=True)  # the item with the lowest id describes all of a title
    merged = items.iloc[first_row].reset_index(drop=True).assign(item_id=series(titles))
    return merged, np.concatenate([np.zeros(1, np.int32), index])
