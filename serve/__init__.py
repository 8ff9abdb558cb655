"""Recommendations from bundles, with numpy and ONNX Runtime.

    from serve import Recommender

    Recommender.load("artifacts/default").recommend(42)

The public names are imported at their first use, so that `import serve` stays cheap.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve.bundle.bundle import Bundle, open_bundle
    from serve.runtime.profiles import Profiles
    from serve.runtime.rankings import Ranking, Scores
    from serve.runtime.reasons import Reason, Reasons
    from serve.runtime.recommender import Recommender
    from serve.runtime.rules import Rules
    from serve.runtime.variety import Variety

__all__ = [
    "Bundle",
    "Profiles",
    "Ranking",
    "Reason",
    "Reasons",
    "Recommender",
    "Rules",
    "Scores",
    "Variety",
    "open_bundle",
]

_MODULES = {
    "Bundle": "serve.bundle.bundle",
    "Profiles": "serve.runtime.profiles",
    "Ranking": "serve.runtime.rankings",
    "Reason": "serve.runtime.reasons",
    "Reasons": "serve.runtime.reasons",
    "Recommender": "serve.runtime.recommender",
    "Rules": "serve.runtime.rules",
    "Scores": "serve.runtime.rankings",
    "Variety": "serve.runtime.variety",
    "open_bundle": "serve.bundle.bundle",
}

# ONNX Runtime's official builds send usage reports unless this is set before they are loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# OpenBLAS's threads spin for 2^26 cycles before they sleep, which costs processor time while libraries load;
# 2^4 is the least.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'serve' has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
