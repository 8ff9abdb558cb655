"""Whatever is in a file: it is read, or refused by an error of ours; nothing else happens."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.data import load
from recsys.errors import DataError
from tests.recsys.data.layouts import LAYOUTS, Make

TROUBLE = b'\x00\t,:|"\n\r\xff9a.- '


def spoil(content: bytes, rng: np.random.Generator, alphabet: bytes) -> bytes:
    spoiled = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        spoiled[rng.integers(len(spoiled))] = alphabet[rng.integers(len(alphabet))]
    return bytes(spoiled)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spoiled_members(layout: str, make_zip: Make, rng: np.random.Generator) -> None:
    for _ in range(60):
        members = {name: spoil(content, rng, TROUBLE) for name, content in LAYOUTS[layout].items()}
        with contextlib.suppress(DataError):
            load(str(make_zip(members)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_spoiled_zips(layout: str, make_zip: Make, rng: np.random.Generator) -> None:
    path = make_zip(LAYOUTS[layout])
    whole = path.read_bytes()
    for _ in range(60):
        path.write_bytes(spoil(whole, rng, bytes(range(256))))
        with contextlib.suppress(DataError):
            load(str(path))


def test_spoiled_parquet(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "r.parquet"
    pd.DataFrame({"user_id": ["a", "b"], "item_id": [1, 2], "rating": [1.0, 2.0]}).to_parquet(path)
    whole = path.read_bytes()
    for _ in range(300):
        path.write_bytes(spoil(whole, rng, bytes(range(256))))
        with contextlib.suppress(DataError):
            load(str(path))
