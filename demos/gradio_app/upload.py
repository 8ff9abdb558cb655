"""A file of one's own ratings, as the browser sends it inside an event: the server takes no uploads."""

from __future__ import annotations

import base64
import binascii
import tempfile
from pathlib import Path
from typing import NamedTuple

from serve import Recommender
from serve.commands.rated_file import read_rated
from serve.errors import InputError, RequestError

LARGEST_FILE = 700_000
"""Bytes; in base64 they fit into a request (`guard.MAX_BODY_BYTES`)."""
N_SHOWN = 12
KNOWN_ENDINGS = (".csv", ".tsv", ".txt", ".dat", ".json", ".jsonl", ".parquet")


class Uploaded(NamedTuple):
    """What a file says of items that the bundle has."""

    ratings: dict[str, float]
    """By the text of the item's id; of an item that is rated twice the last."""
    n_left_out: int
    left_out: list[str]
    """Why the first of the other rows do not count."""


def read_upload(name: object, content: object, recommender: Recommender) -> Uploaded:
    """Read a file of Letterboxd, IMDb or MovieLens, or another with titles or ids, as `recsys fold-in` does.

    Args:
        name: The name of the file, which only says its format.
        content: Base64.
        recommender: Whose items are rated.

    Raises:
        RequestError: no such text, or a file that is too large.
        InputError: the file can't be read, or rates no item of the bundle.
    """
    if not isinstance(name, str) or not isinstance(content, str):
        raise RequestError("a file has a name and a content")
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("the content of the file is not base64") from None
    if len(data) > LARGEST_FILE:
        raise RequestError(f"the file has {len(data):,} bytes; {LARGEST_FILE:,} are taken")
    ending = Path(name.lower()).suffix
    with tempfile.TemporaryDirectory(prefix="recsys-ratings-") as folder:
        path = Path(folder) / f"ratings{ending if ending in KNOWN_ENDINGS else '.csv'}"
        path.write_bytes(data)
        items, scale = recommender.items, recommender.manifest.data.ratings_range
        try:
            found = read_rated(path, items, scale)
        except InputError as error:
            raise InputError(str(error).replace(f"{path}", "the file")) from None
    ratings: dict[str, float] = {}
    left_out = [str(row).replace(f"{path}, ", "") for row in found.left_out[:N_SHOWN]]
    n_left_out = len(found.left_out)
    for index, rating in zip(found.item_indices, found.ratings, strict=True):
        if scale[0] <= rating <= scale[1]:
            ratings[str(items[index].item_id)] = rating
            continue
        n_left_out += 1
        if len(left_out) < N_SHOWN:
            left_out.append(
                f"{items.label(index)}: {rating:g} is off the scale, {scale[0]:g} to {scale[1]:g}"
            )
    if not ratings:
        why = f" ({left_out[0]})" if left_out else ""
        raise InputError(f"the file rates no item of this page{why}")
    return Uploaded(ratings, n_left_out, left_out)
