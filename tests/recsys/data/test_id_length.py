"""An id that can be trained on can be asked for: both have the same limit."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys.data import load
from recsys.errors import DataError
from serve.reading.limits import MAX_ID_LENGTH


@pytest.mark.parametrize("column", ["user", "item"])
def test_the_longest_id_is_read_and_a_longer_one_refused(column: str, tmp_path: Path) -> None:
    for length in (300, MAX_ID_LENGTH, MAX_ID_LENGTH + 1):
        long = "ü" * length
        row = f"{long},i,5" if column == "user" else f"u,{long},5"
        (tmp_path / "r.csv").write_text(f"user_id,item_id,rating\n{row}\na,b,4\n", encoding="utf-8")
        if length <= MAX_ID_LENGTH:
            assert long in load(str(tmp_path / "r.csv")).__dict__[f"{column}s"][f"{column}_id"].tolist()
            continue
        with pytest.raises(DataError, match=rf"{column} ids have up to 1,025 characters, and at most 1,024"):
            load(str(tmp_path / "r.csv"))
