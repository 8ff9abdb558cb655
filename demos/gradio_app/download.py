"""A list as a CSV file, which travels inside the page: the server offers no files."""

from __future__ import annotations

import csv
import io
import re
from typing import NamedTuple
from urllib.parse import quote

import pyarrow as pa

from demos.gradio_app.showcase import Listing
from serve.batch.part_writers import harmless


class Download(NamedTuple):
    """A file behind a link."""

    name: str
    href: str
    """A `data:` address."""


def download(found: Listing, name: str) -> Download:
    """The list with its ids, titles, years, genres, scores, predicted ratings, and reasons if it has some.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, as in the output of jobs.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    names = ["rank", "item_id", "title", "year", "genres", "score", "rating"]
    writer.writerow([*names, *([] if found.reasons is None else ["because_of"])])
    for place, row in enumerate(found.rows):
        item = row.item
        texts = [str(item.item_id), item.title or "", "|".join(item.genres)]
        if found.reasons is not None:
            texts.append("; ".join(map(str, found.reasons.of(place))))
        item_id, title, genres, *because = harmless(pa.array(texts)).to_pylist()
        rating = "" if row.rating is None else f"{row.rating:.4f}"
        cells = [place + 1, item_id, title, item.year or "", genres, f"{row.score:.6g}", rating]
        writer.writerow([*cells, *because])
    # A mark of UTF-8, without which Excel reads the file in the code page of its language.
    href = "data:text/csv;charset=utf-8," + quote("\ufeff" + buffer.getvalue())
    return Download(re.sub(r"[^0-9A-Za-z_-]+", "-", f"recommendations-{name}")[:60].strip("-") + ".csv", href)
