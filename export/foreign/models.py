"""From a fitted model of another package to a bundle.

The packages are recognised by the module of the model's class, and never imported: whoever has a fitted model
has imported them. Nothing is unpickled.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from export.errors import TableError
from export.foreign.bundle import bundle_arrays
from export.foreign.own_parity import own_check
from serve.bundle.bundle import Bundle

ADAPTERS = {
    "implicit": "implicit_models",
    "surprise": "surprise_models",
    "lightfm": "lightfm_models",
    "torch": "two_towers",
}
"""Package of a model's class, or of one of its bases -> the module here that reads such models."""


def bundle_model(model: Any, *, output: str | Path, seen: Any = None, **options: Any) -> Bundle:
    """Write a bundle of a fitted model, verified against the model's own scores before it gets its name.

    Args:
        model: Of implicit (alternating least squares, BPR, logistic MF), Surprise (SVD, PMF), LightFM, or a
            two-tower `torch.nn.Module`.
        output: The bundle's folder, a new one.
        seen: See `bundle_arrays`; for implicit, the `user_items` that the model was fitted on. Surprise's
            models know their ratings.
        options: Those of `bundle_arrays` (`user_ids`, `item_ids`, `items`, `name`, …), and of LightFM
            (`user_features`, `item_features`) and two towers (`user_inputs`, `item_inputs`); see
            docs/bring-your-own.md.

    Raises:
        TableError: a model of another kind, or one that is not fitted; or as `bundle_arrays`.
        DataError, GraphError, ParityError, OutputError: as `bundle_arrays`.
    """
    packages = [base.__module__.partition(".")[0] for base in type(model).__mro__]
    package = next((name for name in packages if name in ADAPTERS), None)
    if package is None:
        kind = f"{type(model).__module__}.{type(model).__qualname__}"
        raise TableError(
            f"{kind} is of no package that is known here ({', '.join(ADAPTERS)}). Give its tables to "
            f"recsys.bundle."
        )
    adapter = import_module(f"export.foreign.{ADAPTERS[package]}")
    tables, own_scores, same_scores = adapter.read_model(model, seen, options)
    provider = f"{package}.{type(model).__name__}"
    check = own_check(provider, own_scores, same_scores=same_scores)
    return bundle_arrays(output=output, checks=[check], **{"name": provider} | tables | options)


def required(model: Any, *names: str) -> list[Any]:
    """Attributes of a fitted model. Raises TableError: it lacks one, or is not fitted."""
    found = [getattr(model, name, None) for name in names]
    if missing := [name for name, value in zip(names, found, strict=True) if value is None]:
        raise TableError(f"{type(model).__name__} has no {', '.join(missing)}: fit it, or give its tables")
    return found
