"""Any run folder, through any entrance: a refusal in a line, or a bundle that was verified."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import click
import numpy as np
import pytest
import tiny_runs
from hostile_runs import mutate_run
from test_hostile_bundles import command, in_child

from serve import Recommender

# Training and torch's own memory and start are in them.
MOST_SECONDS, MOST_BYTES = 20, 2 << 30


def export(run: Path, folder: Path) -> bool:
    if command("export", run, "--output", folder / "made") is None:
        return False
    Recommender.load(folder / "made", "cpu").check()
    return True


def evaluate(run: Path, folder: Path) -> bool:
    return command("evaluate", run) is not None


def resume(run: Path, folder: Path) -> bool:
    return command("train", "--output", run, "--resume") is not None


def start_from(run: Path, folder: Path) -> bool:
    data = folder / "data.csv"
    rows = "".join(f"{10 + n % 5},{1001 + n},{n % 5}\n" for n in range(20))
    data.write_text("user_id,item_id,rating\n" + rows)
    options = ("--init-from", run, "--output", folder / "next", "--epochs", 1)
    return command("train", "--data", data, *options) is not None


ENTRANCES: dict[str, Callable[[Path, Path], bool]] = {
    "export": export,
    "evaluate": evaluate,
    "train --resume": resume,
    "train --init-from": start_from,
}
NAMES = list(tiny_runs.CONFIGS)


@pytest.mark.nightly
def test_many_hostile_runs_through_every_entrance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each in a process of its own. HOSTILE_RUNS says how many."""
    for module in ("export.write.bundle", "recsys.training.train"):
        import_module(module)  # once, and not in each process
    for name in NAMES:
        tiny_runs.make_run(tmp_path / name, name)
    counts: Counter[str] = Counter()
    failures = []
    for number in range(int(os.environ.get("HOSTILE_RUNS", 200))):
        for entrance, enter in ENTRANCES.items():
            folder = tmp_path / f"{number}"
            shutil.copytree(tmp_path / NAMES[number % len(NAMES)], folder / "run")
            what = mutate_run(folder / "run", np.random.default_rng(number))
            outcome, seconds, n_bytes = in_child(partial(enter, folder / "run", folder))
            shutil.rmtree(folder)
            is_right = outcome in ("answered", "refused") and seconds <= MOST_SECONDS
            is_right = is_right and n_bytes <= MOST_BYTES
            counts[f"{entrance}: {outcome if is_right else 'FAILED'}"] += 1
            if not is_right:
                used = f"{seconds:.1f} s {n_bytes >> 20} MiB"
                failures.append(f"{number} {entrance} ({what}): {outcome} {used}")
    counted = [f"{name}: {count}" for name, count in sorted(counts.items())]
    with capsys.disabled():
        click.echo("\n".join(["", *counted, *failures]))
    assert not failures
