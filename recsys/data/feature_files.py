"""Features of users or items from a file: numbers, categories, and lists separated by "|"."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from recsys.data.items import as_text, numeric_years
from recsys.data.refusals import SHOWN, keyed_table
from recsys.errors import DataError
from serve.reading.columns import find_columns
from serve.reading.files import open_source
from serve.reading.ids import as_ids, is_string
from serve.reading.numbers import as_numbers
from serve.reading.rows import joined

Whose = Literal["users", "items"]

log = logging.getLogger(__name__)

# A column with at most this share of words was meant to have numbers.
MAX_WORD_SHARE = 1 / 3


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """A file of features, read."""

    file: str
    ids: pa.Array
    """int64 or string [n], distinct, no null."""
    features: pd.DataFrame
    """[n]: float64 with NaN, or str with missing values, in each column; `year` is Int64."""

    def joined(self, table: pd.DataFrame) -> pd.DataFrame:
        """Add the features to users or items, whose ids are in the first column; a title that is known stays.

        Logs a line about users or items without a row, and rows of others.

        Raises:
            DataError: no id is in the table, or the table has a column of one of the names.
        """
        id_name = table.columns[0]
        whose = f"{id_name.removesuffix('_id')}s"
        features = self.features
        if "title" in table:
            features = features.drop(columns="title", errors="ignore")
        if taken := sorted(set(features.columns) & set(table.columns)):
            raise DataError(
                f"{self.file}: {whose} have a column {', '.join(taken)} already: rename it, or leave it out."
            )
        is_text = table[id_name].dtype == "str"
        ids = as_ids(self.ids, pa.string() if is_text else pa.int64())
        usable = ids.is_valid().to_numpy(zero_copy_only=False)  # text that is no integer is nobody's id here
        index = pd.Index(ids.filter(pa.array(usable)).to_numpy(zero_copy_only=False))
        if index.has_duplicates:
            raise DataError(
                f"{self.file}: ids are repeated, such as {index[index.duplicated()].tolist()[0]!r}."
            )
        rows = index.get_indexer(table[id_name])  # -1: no row
        found = int((rows >= 0).sum())
        if not found:
            raise DataError(
                f"{self.file} has no row for any of the {len(table):,} {whose}: its ids are like "
                f"{self.ids[0].as_py()!r}, those of the {whose} like {table[id_name].tolist()[0]!r}."
            )
        unknown = len(self.ids) - found
        if found < len(table) or unknown:
            log.warning(
                f"{self.file}: {len(table) - found:,} of {len(table):,} {whose} have no row, and {unknown:,} "
                f"rows are of unknown {whose}"
            )
        matched = features[usable].reset_index(drop=True).reindex(rows).reset_index(drop=True)
        described: pd.DataFrame = pd.concat([table, matched], axis="columns")
        return described


def read_features(path: Path, whose: Whose, id_column: str | None = None) -> FeatureTable:
    """Read a file (`serve.reading.files`) with a row for each user or item.

    A column is numbers where all of its cells are; else text: a category, or several separated by "|". Lists
    and truth values of Parquet become text. Empty cells are missing values. A column without a name, such as
    the index of a data frame, is ignored.

    Args:
        path: the file.
        whose: what its rows are of.
        id_column: the column of ids, if the file has it; None: a usual name.

    Raises:
        InputError: the file can't be read, or has no column of ids.
        DataError: refused rows; missing or repeated ids, ids that are neither integers nor strings; no other
            column, or one of another type.
    """
    source = open_source(path)
    role = whose.removesuffix("s")
    named = id_column if id_column in source.schema.names else None
    name = find_columns(source.schema.names, {role: named}, source.name)[role]
    columns = [other for other in source.schema.names if other not in (name, "")]
    if not columns or len(set(columns)) < len(columns):
        raise DataError(f"{path} has no column but {name}, or two of one name: features are further columns.")
    ids, table = keyed_table(source, name)
    if not len(ids):
        raise DataError(f"{path} has no rows: it should have one for each {role}.")
    features = pd.DataFrame(
        {column: _feature(joined(table[column]), f"{path}: {column}") for column in columns}
    )
    for column in features.columns.intersection(["title", "genres"]):  # as catalogues have them
        cells = [cell or None for cell in as_text(joined(table[column]))]
        features[column] = pd.Series(cells, dtype="str")
    if "year" in features:
        features["year"] = numeric_years(features["year"]).round().astype("Int64")
    return FeatureTable(str(path), ids, features)


def _feature(column: pa.Array, name: str) -> pd.Series:
    """float64 or str."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pd.Series(as_text(column), dtype="str")
    if pa.types.is_boolean(kind):
        return pd.Series(column.cast(pa.string()).to_pylist(), dtype="str")
    if pa.types.is_null(kind) or is_string(kind):
        text = column.cast(pa.string())
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
        numbers = as_numbers(text, pa.float64())
        if numbers.null_count > text.null_count:
            _warn_of_words(text, numbers, name)
            return pd.Series(as_text(text), dtype="str")
        return pd.Series(numbers.to_numpy(zero_copy_only=False))
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pd.Series(as_numbers(column, pa.float64()).to_numpy(zero_copy_only=False))
    raise DataError(f"{name} is of type {kind}: features are numbers, text, or lists of text.")


def _warn_of_words(text: pa.Array, numbers: pa.Array, name: str) -> None:
    """Log a warning where a few words, such as "n/a", make categories of a column of numbers."""
    words = text.filter(pc.and_(text.is_valid(), numbers.is_null()))
    if len(words) <= MAX_WORD_SHARE * (len(text) - text.null_count):
        shown = ", ".join(map(repr, pc.unique(words)[:SHOWN].to_pylist()))
        log.warning(
            f"{name}: {len(words):,} cells are no numbers, such as {shown}, so that each number is a "
            f"category of its own. Leave such cells empty, and write a point before decimals."
        )
