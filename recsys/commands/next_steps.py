"""What to type next: never a command that would be refused."""

from __future__ import annotations

from itertools import count
from pathlib import Path


def export_words(run: Path, *, overwrite: bool = False) -> list[str | Path]:
    """The command that exports a run to `bundle_of` it, or beside a bundle that is there.

    With `overwrite` that bundle is replaced.
    """
    bundle = bundle_of(run)
    if overwrite and bundle.exists():
        return ["recsys", "export", run, "--explain", "--output", bundle, "--overwrite"]
    return ["recsys", "export", run, "--explain", "--output", free(bundle)]


def bundle_of(run: Path) -> Path:
    """Where a run is exported to: runs/mine to artifacts/mine, or any other to a folder beside it."""
    if run.name in ("", ".."):
        run = run.resolve()
    if run.parent.name == "runs":
        return run.parent.parent / "artifacts" / run.name
    return run.with_name(f"{run.name}-bundle")


def free(path: Path) -> Path:
    """The path, or where something is there the next one that is free: runs/mine, runs/mine-2, …"""
    numbered = (path.with_name(f"{path.name}-{number}") for number in count(2))
    return path if not path.exists() else next(one for one in numbered if not one.exists())
