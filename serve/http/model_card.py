"""What the manifest says of a model, for `/v1/model`."""

from __future__ import annotations

from typing import Any

from serve.http.model import LoadedModel


def model_card(model: LoadedModel) -> dict[str, Any]:
    """The content of a `schemas.ModelResponse`."""
    manifest, recommender = model.recommender.manifest, model.recommender
    return {
        "model_version": model.version,
        "device": recommender.device,
        "kind": manifest.model.kind,
        "n_users": manifest.model.n_users,
        "n_items": manifest.model.n_items,
        "n_factors": manifest.model.n_factors,
        "score_range": manifest.model.score_range,
        "data": {
            "name": manifest.data.name,
            "sha256": manifest.data.sha256,
            "n_ratings": manifest.data.n_ratings,
            "ratings_range": manifest.data.ratings_range,
            "licence": manifest.data.licence,
        },
        "id_types": {
            "user_id": "string" if recommender.users.is_string else "integer",
            "item_id": "string" if recommender.items.ids.is_string else "integer",
        },
        "split": manifest.split,
        "metrics": manifest.metrics,
        "largest_top_k": {
            name: graph.top_k for name, graph in manifest.graphs.items() if graph.top_k is not None
        },
        "conformance_cases": model.n_conformance_cases,
    }
