"""What the data knows of its items: the catalogue, one row an item."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

# The last year in brackets: "Toy Story (1995)", "Death Note (2006–2007)", "The Great Giving (1995) (V)".
_YEAR = r"^.*\((\d{4})(?:[-–]\d{0,4})?\)"


def catalogue(item_ids: pa.Array, titles: list[str | None], genres: list[str | None]) -> pd.DataFrame:
    """The catalogue as a frame: `item_id` (int64 or str), `title` (str, exactly as in the source),
    `genres` (str, "|" between two, "" for none), `year` (Int64, out of the title).
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
    frame["year"] = frame["title"].str.extract(_YEAR, expand=False).astype("Float64").astype("Int64")
    return frame
