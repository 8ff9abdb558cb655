"""Features of users and items as binary columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

# Columns of a table of users or items that are no features; "" is the index of a data frame, written as text.
IDENTITY = ("user_id", "item_id", "title", "")
YEARS_PER_BIN = 5
N_BINS = 10
# Categories of a column; rarer ones are left out.
MAX_CATEGORIES = 500


def feature_names(table: pd.DataFrame) -> list[str]:
    """The columns of `Interactions.users` or `.items` that are features."""
    return [str(name) for name in table.columns if name not in IDENTITY]


def numeric_features(table: pd.DataFrame) -> dict[str, npt.NDArray[np.float64]]:
    """The features that are numbers, but the year: name -> float64 [n], NaN where one is missing."""
    names = [name for name in feature_names(table) if name != "year"]
    return {name: _finite(table[name]) for name in names if pd.api.types.is_numeric_dtype(table[name])}


def _finite(values: pd.Series) -> npt.NDArray[np.float64]:
    numbers = pd.to_numeric(values, errors="coerce").astype("Float64").to_numpy(np.float64, na_value=np.nan)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def binary_features(table: pd.DataFrame) -> np.ndarray:
    """One-hot features of users or items: float32 [n, A]; A is 0 where nothing is known.

    A text is a category, or several separated by "|". Years are cut into bins of five, other numbers into ten
    bins with about as many rows each. A missing value is 0 in every column.
    """
    columns = [column for name in feature_names(table) for column in _columns(name, table[name])]
    return np.column_stack(columns) if columns else np.zeros((len(table), 0), np.float32)


def _columns(name: str, values: pd.Series) -> Iterator[np.ndarray]:
    if pd.api.types.is_numeric_dtype(values):
        numbers = pd.Series(_finite(values))
        if name == "year":
            values = numbers // YEARS_PER_BIN
        elif numbers.nunique() <= N_BINS:
            values = numbers
        else:
            values = pd.qcut(numbers, N_BINS, labels=False, duplicates="drop")
        for category in sorted(values.dropna().unique()):
            yield (values == category).to_numpy(np.float32, na_value=0)
        return
    # Not `Series.str.get_dummies`: pandas 3.1 mixes up rows where an Arrow string is empty.
    cells = [cell.split("|") if isinstance(cell, str) else [] for cell in values.astype(object)]
    counts = Counter(category for cell in cells for category in cell if category)
    column_of = {
        name: i for i, name in enumerate(sorted(name for name, _ in counts.most_common(MAX_CATEGORIES)))
    }
    columns = np.zeros((len(cells), len(column_of)), np.float32)
    for row, cell in zip(columns, cells, strict=True):
        row[[column_of[category] for category in cell if category in column_of]] = 1
    yield from columns.T
