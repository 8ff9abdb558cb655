"""Answers from bundles (numpy, onnxruntime); owns the bundle format.

    from serve import Recommender

    Recommender.load("artifacts/default").recommend(42)

The public names are listed here and imported at their first use, so that `import serve` stays cheap.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.bundle.bundle import Bundle, open_bundle
    from serve.runtime.profiles import Profiles
    from serve.runtime.rankings import Ranking, Scores
    from serve.runtime.recommender import Recommender

__all__ = ["Bundle", "Profiles", "Ranking", "Recommender", "Scores", "open_bundle"]

_MODULES = {
    "Bundle": "serve.bundle.bundle",
    "Profiles": "serve.runtime.profiles",
    "Ranking": "serve.runtime.rankings",
    "Recommender": "serve.runtime.recommender",
    "Scores": "serve.runtime.rankings",
    "open_bundle": "serve.bundle.bundle",
}

# ONNX Runtime's official builds send usage reports unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenBLAS' threads wait for work in a loop of 2^26 cycles, which costs processor time while libraries load.
# With 2^4, the least, they sleep almost at once.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'serve' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
