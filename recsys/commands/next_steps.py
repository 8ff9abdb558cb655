"""What to type after a run is there."""

from __future__ import annotations

from pathlib import Path


def export_words(run: Path, *, overwrite: bool = False) -> list[str | Path]:
    """The command that exports a run: runs/mine to artifacts/mine, or any other to a folder beside it.

    With `overwrite` a bundle that is there is replaced.
    """
    if run.name in ("", ".."):
        run = run.resolve()
    bundle = run.with_name(f"{run.name}-bundle")
    if run.parent.name == "runs":
        bundle = run.parent.parent / "artifacts" / run.name
    replacing = ["--overwrite"] if overwrite and bundle.exists() else []
    return ["recsys", "export", run, "--output", bundle, *replacing]
