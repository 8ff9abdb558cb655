"""What a job needs is said before it begins, and refused where it is not there."""

from __future__ import annotations

import logging
from pathlib import Path

import psutil
import pytest
import tiny_runs

from recsys.errors import MemoryShortageError
from recsys.memory import forecast, free_bytes
from recsys.models import KINDS
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

TERABYTE = 10**12


def test_a_large_job_is_said_and_a_larger_one_refused(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    forecast("a small job", 10**6, "", free=10**9)
    assert not caplog.messages
    forecast("the job", 2 * 10**9, "", free=3 * 10**9)
    assert caplog.messages == ["the job needs about 2.0 GB of memory; 3.0 GB are free"]
    with pytest.raises(MemoryShortageError, match=r"needs about 2000.0 GB of memory; 3.0 GB .* Take less"):
        forecast("the job", 2 * TERABYTE, "Take less.", free=3 * 10**9)


@pytest.mark.parametrize(
    "names",
    [
        ("memory.max", "memory.current", "memory.stat", "inactive_file"),
        (
            "memory/memory.limit_in_bytes",
            "memory/memory.usage_in_bytes",
            "memory/memory.stat",
            "total_inactive_file",
        ),
    ],
    ids=["version 2", "version 1"],
)
def test_a_containers_limit_counts(tmp_path: Path, names: tuple[str, str, str, str]) -> None:
    """Files that were read count as free: the system gives them up."""
    limit, used, statistics, inactive = names
    (tmp_path / "memory").mkdir()
    machine = psutil.virtual_memory().total
    assert 0 < free_bytes(tmp_path) <= machine
    (tmp_path / limit).write_text("100000\n")
    (tmp_path / used).write_text("70000\n")
    (tmp_path / statistics).write_text(f"anon 5\n{inactive} 20000\nslab 3\n")
    assert free_bytes(tmp_path) == 50_000
    (tmp_path / used).write_text("170000\n")
    assert free_bytes(tmp_path) == 0
    (tmp_path / limit).write_text("max\n")
    assert free_bytes(tmp_path) > 100_000


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bayes"])
def test_tables_beyond_the_memory_are_refused_before_there_is_a_folder(kind: str, tmp_path: Path) -> None:
    settings = new_settings(kind, {"factors": TERABYTE // 100})
    with pytest.raises(MemoryShortageError, match=f"training {kind} needs about .* fewer --factors"):
        train(tiny_runs.interactions(), settings, tmp_path / "run", machine=Machine("cpu", "off"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_more_of_everything_needs_more(kind: str) -> None:
    fitted = KINDS[kind].memory
    assert (fitted is None) == (KINDS[kind].fit is None)
    if fitted:
        config = KINDS[kind].config()
        sizes = [(10, 10, 100), (10_000, 10, 100), (10_000, 10_000, 100), (10_000, 10_000, 10**6)]
        needed = [fitted(config, *size) for size in sizes]
        assert needed == sorted(set(needed))
