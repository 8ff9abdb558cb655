"""What the data knows of its items: the catalogue, one row an item."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from recsys.errors import DataError

# The last year in brackets: "Toy Story (1995)", "Death Note (2006–2007)", "The Great Giving (1995) (V)".
_YEAR = r"^.*\((\d{4})(?:[-–]\d{0,4})?\)"


def catalogue(
    item_ids: pa.Array, titles: list[str | None], genres: list[str | None], file: str
) -> pd.DataFrame:
    """The catalogue as a frame: `item_id` (int64 or str), `title` (str, exactly as in the source),
    `genres` (str, "|" between two, "" for none), `year` (Int64, out of the title).

    Raises:
        DataError: ids of `file` that are missing or repeated.
    """
    frame = pd.DataFrame(
        {
            "item_id": item_ids.to_numpy(zero_copy_only=False),
            "title": pd.Series(titles, dtype="str"),
            "genres": pd.Series(genres, dtype="str"),
        }
    )
    if pa.types.is_string(item_ids.type):
        frame["item_id"] = frame["item_id"].astype("str")
    bad = frame["item_id"].isna() | frame["item_id"].duplicated() | (frame["item_id"] == "")
    if bad.any():
        first = ", ".join(map(repr, frame["item_id"][bad].head(5).tolist()))
        raise DataError(
            f"{file}: {bad.sum():,} item ids are missing or repeated: {first}. Keep one row an item."
        )
    frame["year"] = frame["title"].str.extract(_YEAR, expand=False).astype("Float64").astype("Int64")
    return frame
