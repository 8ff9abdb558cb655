"""Tables beyond 2 GB, which no protobuf holds: trained, exported, verified, and asked."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

WIDTH = 64
GIB = 1 << 30


def recsys(*arguments: object) -> str:
    """Run the command; what it printed. Each is a process of its own."""
    line = [sys.executable, "-m", "recsys", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def most_memory() -> float:
    """GiB of the largest process so far."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1 << 20)


@pytest.mark.nightly
def test_tables_beyond_two_gigabytes(tmp_path: Path, capsys: Any) -> None:
    """LARGE_ROWS says how many users and items there are: of 64 factors, 12.6 million take 3 GiB."""
    n_rows = int(os.environ.get("LARGE_ROWS", 12_600_000))
    n_users = n_items = n_rows // 2
    rng = np.random.default_rng(0)
    # Every user and item has a rating; the order of both is shuffled, so that pairs mean nothing.
    ratings = {"user_id": rng.permutation(n_users) + 1, "item_id": rng.permutation(n_items) + 1}
    ratings["rating"] = rng.integers(1, 11, n_users) / 2
    pq.write_table(pa.table(ratings), tmp_path / "ratings.parquet")
    settings = ("--model", "dot-bias", "--factors", WIDTH, "--epochs", 1, "--batch-size", 65_536)
    recsys(
        *("train", "--data", tmp_path / "ratings.parquet", "--output", tmp_path / "run"),
        *(*settings, "--valid-fraction", 0),
    )
    trained = most_memory()
    recsys("export", tmp_path / "run", "--output", tmp_path / "bundle")
    n_bytes = sum(path.stat().st_size for path in (tmp_path / "bundle").iterdir())
    assert n_bytes > 4 * WIDTH * n_rows
    assert all(path.stat().st_size < GIB for path in (tmp_path / "bundle").glob("*.onnx"))

    from recsys.training.checkpoint import load_run

    state = load_run(tmp_path / "run").model().state_dict()
    tables = {name: table.numpy() for name, table in state.items()}
    for user in (1, n_users // 2, n_users):
        found = json.loads(recsys("recommend", tmp_path / "bundle", "--user-id", user, "-k", 10, "--json"))
        logits = tables["item_factors"] @ tables["user_factors"][user] + tables["item_biases"][:, 0]
        logits[0] = logits[ratings["item_id"][ratings["user_id"] == user]] = -np.inf
        best = np.sort(logits)[::-1][:10]
        listed = [item["item_id"] for item in found["items"]]
        # Ids are those of the rows, and float32 sums may swap neighbours.
        np.testing.assert_allclose(logits[listed], best, rtol=0, atol=1e-6)
        assert len(set(listed)) == 10
    with capsys.disabled():
        click.echo(
            f"\n{n_rows:,} rows, {n_bytes / GIB:.2f} GiB of bundle; at most {trained:.1f} GiB of memory in "
            f"training, {most_memory():.1f} with export"
        )
