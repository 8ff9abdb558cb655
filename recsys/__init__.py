"""Trains recommenders (torch), and the `recsys` command. The whole way in Python:

    import recsys

    run = recsys.fit(ratings)                          # a DataFrame, a file, or a name such as "ml-100k"
    run.export("artifacts/mine")                       # ONNX graphs, verified
    recsys.load("artifacts/mine").recommend(42)

    recsys.bundle(user_factors=..., item_factors=...)  # the same bundle from tables of any trainer
    recsys.bundle_from(model, ...)                     # or from its fitted model

The public names are imported at their first use, so that `import recsys` stays cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys.facade import FittedRun, bundle, bundle_from, fit, load

__all__ = ["FittedRun", "bundle", "bundle_from", "fit", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'recsys' has no attribute {name!r}")
    return getattr(importlib.import_module("recsys.facade"), name)
