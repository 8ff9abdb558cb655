"""`bom.cdx.json` of a bundle: what it is made of, as CycloneDX 1.6 writes machine-learning models.

Written here, since cyclonedx-python-lib 11.12 has no class for model cards. The tests check it against that
library's schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from export.write.model_card import measured
from serve.bundle.manifest import File, Manifest


def bom(manifest: Manifest, files: Mapping[str, File]) -> bytes:
    """The document, without serial number and time: the same bundle gives the same bytes."""
    model, data = manifest.model, manifest.data
    components: list[dict[str, Any]] = [
        {
            "type": "data",
            "bom-ref": "data",
            "name": data.name,
            "hashes": _hashes(data.sha256),
            "licenses": [{"license": {"name": data.licence}}],
        },
        *(
            {"type": "library", "bom-ref": f"pkg:pypi/{name}@{version}", "name": name, "version": version}
            | {"purl": f"pkg:pypi/{name}@{version}"}
            for name, version in sorted(manifest.versions.items())
        ),
        *(
            {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": _hashes(file.sha256)}
            for name, file in sorted(files.items())
        ),
    ]
    card: dict[str, Any] = {
        "modelParameters": {
            "task": "recommendation",
            "architectureFamily": "collaborative filtering",
            "modelArchitecture": model.title,
            "datasets": [{"ref": "data"}],
            "inputs": [{"format": "user and item indices (int64)"}],
            "outputs": [{"format": f"item indices (int64), scores (float32, {model.scores})"}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [
                {"type": title, "value": f"{value:.6g}", "slice": "held-out ratings"}
                for title, _, value in measured(manifest)
            ]
        },
    }
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "machine-learning-model",
                "bom-ref": "model",
                "name": f"{model.title} on {data.name}",
                "modelCard": card,
            }
        },
        "components": components,
        "dependencies": [{"ref": "model", "dependsOn": [one["bom-ref"] for one in components]}],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
