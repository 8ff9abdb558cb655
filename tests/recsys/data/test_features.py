"""Features of users and items as binary columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from recsys.data.features import binary_features, feature_names


def test_lists_categories_years_and_missing_values() -> None:
    table = pd.DataFrame(
        {
            "item_id": [1, 2, 3],
            "title": ["A", "B", "C"],
            "genres": ["War|Love", None, "War"],
            "year": pd.array([1994, 1999, None], dtype="Int64"),
            "stars": [1, 2, 1],
        }
    )
    assert feature_names(table) == ["genres", "year", "stars"]
    # Love, War; 1990-94, 1995-99; 1 star, 2 stars
    expected = [[1, 1, 1, 0, 1, 0], [0, 0, 0, 1, 0, 1], [0, 1, 0, 0, 1, 0]]
    np.testing.assert_array_equal(binary_features(table), expected)


def test_numbers_are_cut_into_bins_with_as_many_rows_each() -> None:
    features = binary_features(pd.DataFrame({"price": np.geomspace(1, 1e9, 100)}))
    assert features.shape == (100, 10)
    assert (features.sum(axis=0) == 10).all()
    assert (features.sum(axis=1) == 1).all()


def test_without_features_there_are_no_columns() -> None:
    assert binary_features(pd.DataFrame({"user_id": [1, 2]})).shape == (2, 0)
