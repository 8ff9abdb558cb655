"""The names of `import recsys`: from ratings to a run, a bundle and answers.

`export` and `serve` are looked up by module path when they are called, because `recsys` does not import them.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.commands.data_options import TRAINING_DATA_OPTIONS, load_from_options
from recsys.errors import ConfigError

if TYPE_CHECKING:
    from recsys.data.interactions import Interactions


class FittedRun:
    """A run folder: what `recsys train` writes, and `recsys export` reads."""

    def __init__(self, path: Path, *, temporary: bool = False) -> None:
        self.path = path
        """The folder; a temporary one, "run" in a folder of its own, is removed with this object."""
        if temporary:
            weakref.finalize(self, shutil.rmtree, path.parent, ignore_errors=True)

    def __repr__(self) -> str:
        return f"FittedRun({str(self.path)!r})"

    def export(self, folder: str | Path, **options: Any) -> Any:
        """Write the bundle, a new folder, and verify it against torch; returns it, a `serve.Bundle`.

        `options` are those of `export.write.bundle.export_run`: `top_k`, `raw_ids`, `fast`, `filtered`,
        `explain`, `variety`, `precision`, `rating_weight`, `without_seen`, `tables_file`, `overwrite`.

        Raises:
            CheckpointError, ConfigError, GraphError, ParityError, OutputError: as `export_run`.
        """
        import_module("export.write.bundle").export_run(self.path, Path(folder), **options)
        return import_module("serve").open_bundle(folder)

    def evaluate(self, k: int = 10) -> dict[str, Any]:
        """Metrics on the held-out ratings, beside baselines; see `recsys.evaluation.evaluate.evaluate`."""
        from recsys.training.checkpoint import load_run
        from recsys.training.evaluate_run import evaluate_run

        return evaluate_run(load_run(self.path), k)


def fit(
    ratings: Any,
    *,
    items: Any = None,
    model: str | list[str] | None = None,
    preset: str | None = None,
    output: str | Path | None = None,
    overwrite: bool = False,
    device: Any = "auto",
    progress: bool = True,
    **options: Any,
) -> FittedRun:
    """Train a model, or several as the parts of one recommender, as `recsys train` does.

    Args:
        ratings: A table of pandas, polars or Arrow, or a dict of columns, with a row for each rating; or a
            path, or the name of a data set, as for `recsys train --data`.
        items: Beside a table: one of items, with ids and titles, genres or years.
        model: KIND or KIND:WEIGHT, or a list of them; None: the parts of the preset.
        preset: Name of a preset; None: "default" if there is no `model`.
        output: The run folder; None: a temporary one.
        overwrite: Replace a run that is there.
        device: "auto", "cpu" or "cuda".
        progress: Print a row for each epoch or iteration.
        options: The other flags of `recsys train` under their Python names: how the data is read
            (`user_column`, `rating_column`, `implicit`, `duplicates`, …), and settings (`epochs`, `factors`,
            `split`, `valid_fraction`, `seed`, …).

    Raises:
        DataError, DownloadError, ConfigError, OutputError, TrainingError: as `recsys.data.load` and
            `recsys.training.train`.
    """
    from recsys.console import Console
    from recsys.training.config_file import FIELDS, read_preset
    from recsys.training.progress import show_training
    from recsys.training.settings import new_settings
    from recsys.training.train import Machine, train

    if model is not None and preset is not None:
        raise ConfigError("model and preset both bring the parts: leave one of them out")
    reading = {name: options.pop(name) for name in TRAINING_DATA_OPTIONS if name in options}
    asked = {FIELDS.get(name, name): value for name, value in options.items()}
    settings = new_settings(model if preset is None else read_preset(preset), asked)
    data = _read(ratings, items, reading)
    path = Path(tempfile.mkdtemp(prefix="recsys-"), "run") if output is None else Path(output)
    run = FittedRun(path.absolute(), temporary=output is None)  # before the training, which may fail
    with show_training(Console(soft_wrap=True, quiet=not progress)) as reporter:
        train(data, settings, path, overwrite=overwrite, machine=Machine(device), reporter=reporter)
    return run


def _read(ratings: Any, items: Any, reading: dict[str, Any]) -> Interactions:
    if isinstance(ratings, str | Path):
        if items is not None:
            raise ConfigError("items go with a table of ratings; a file's have item_features, a file, too")
        return load_from_options(str(ratings), **reading)
    from recsys.data.frames import load_frame

    return load_frame(ratings, items, **reading)


def load(bundle: Any, device: str = "auto", **options: Any) -> Any:
    """The `serve.Recommender` of a bundle: its folder, or what `FittedRun.export` returns.

    `device`, `options` and errors are those of `serve.Recommender.load`. Answering needs no torch.
    """
    path = getattr(bundle, "path", bundle)
    return import_module("serve").Recommender.load(path, device, **options)


def bundle(**tables: Any) -> Any:
    """A bundle from the tables of any trainer; see `export.foreign.bundle.bundle_arrays`.

    Returns:
        The `serve.Bundle`.
    """
    return import_module("export.foreign.bundle").bundle_arrays(**tables)


def bundle_from(model: Any, **options: Any) -> Any:
    """A bundle from a fitted model of another package; see `export.foreign.models.bundle_model`.

    Returns:
        The `serve.Bundle`.
    """
    return import_module("export.foreign.models").bundle_model(model, **options)
