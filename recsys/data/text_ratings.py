"""Ratings out of delimited text."""

from __future__ import annotations

from importlib.resources.abc import Traversable
from typing import NoReturn

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow_csv

from recsys.data.columns import Columns
from recsys.data.ratings_table import RatingsTable, Source, checked, refuse
from recsys.data.text import TextFormat, TextTable
from recsys.errors import DataError

_NUMBER = r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"
_DATE = r"\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?"


def read_ratings(file: Traversable, layout: TextFormat, columns: Columns) -> RatingsTable:
    """Read a table of ratings; blank lines don't count.

    Ids that are all whole numbers become int64 ("007" is 7), others stay the strings that they are.
    Timestamps are seconds since 1970 or ISO dates.

    Raises:
        DataError: an empty file, missing columns, a row with too few or too many fields, or anything
            that `checked` refuses; with the count, the first offending rows and the way out.
    """
    text = TextTable.of(file, layout)
    found = columns.resolve(text.names, str(file))
    names = {role: text.header[text.names.index(name)] for role, name in found.items()}
    try:
        table = _typed(text, names)
    except pa.ArrowInvalid as error:
        _explain(text, names, str(error))
    if "timestamp" in names and pa.types.is_string(table.schema.field(names["timestamp"]).type):
        _explain(text, names, "timestamps are neither seconds nor dates")
    return checked({role: table[name] for role, name in names.items()}, Source(str(file), text.quote))


def _typed(text: TextTable, names: dict[str, str]) -> pa.Table:
    """The columns, typed as their first rows are, or, where later ones differ, as all rows allow.

    Arrow infers types from all rows, but holds the whole text in memory for it.
    """
    columns, rating = list(names.values()), {names["rating"]: pa.float32()}
    try:
        return text.read(columns, _types(text.sample(columns, rating), names))
    except pa.ArrowInvalid:
        return text.read(columns, _types(text.read(columns, rating), names))


def _types(table: pa.Table, names: dict[str, str]) -> dict[str, pa.DataType]:
    """The table's types; string for ids that are no integers (1.5, a date): an id is what is written."""
    types = {field.name: field.type for field in table.schema if not pa.types.is_null(field.type)}
    for role in ("user", "item"):
        if names[role] in types and not pa.types.is_int64(types[names[role]]):
            types[names[role]] = pa.string()
    return types


def _explain(text: TextTable, names: dict[str, str], reason: str) -> NoReturn:
    """Read the file once more, as text, to find the rows that could not be read as ratings."""
    source = Source(str(text.file), text.quote)
    malformed: list[arrow_csv.InvalidRow] = []
    try:
        table = text.read(
            list(names.values()), dict.fromkeys(names.values(), pa.binary()), malformed=malformed
        )
    except pa.ArrowInvalid as error:
        raise DataError(f"{text.file}: {error}") from None
    if malformed:
        # Arrow counts lines as `quote` counts rows, without the blank ones, but from 1 and with the header.
        first = 1 if text.layout.header else 2
        rows = [row.number - first for row in malformed]
        what = f"rows don't have {malformed[0].expected_columns} fields"
        source.refuse(rows, what, "Correct or remove them")
    bad = _unlike(_NUMBER, table[names["rating"]])
    refuse(bad, "ratings are no finite number", "Correct or remove these rows", source)
    if "timestamp" in names:
        way_out = "Correct these rows, or leave the column out with --timestamp-column ''"
        times = table[names["timestamp"]]
        refuse(_unlike(f"{_NUMBER}|{_DATE}", times), "timestamps are no time", way_out, source)
        no_date = _unlike(_DATE, times)
        if not pc.all(no_date).as_py():
            refuse(no_date, "timestamps are no dates, where others are", way_out, source)
    raise DataError(f"{text.file}: {reason}. Text must be UTF-8.")


def _unlike(pattern: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Bool [n]: whether the whole of a value, spaces around it aside, does not match."""
    return pc.invert(pc.match_substring_regex(values, rf"^\s*({pattern})\s*$"))
