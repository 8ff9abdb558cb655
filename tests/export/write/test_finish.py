"""The model card and the bill of materials of a bundle, read by the libraries that they are written for."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from fixture_bundles import BUNDLES, FIXTURES
from huggingface_hub import ModelCard

from export.write.bom import bom
from export.write.model_card import model_card
from serve.bundle.changes import Forgotten
from serve.bundle.manifest import Manifest, read_manifest


@pytest.fixture(params=BUNDLES)
def bundle(request: pytest.FixtureRequest) -> Path:
    path: Path = FIXTURES / request.param
    return path


def test_the_card_is_read_by_the_hub(bundle: Path) -> None:
    manifest, card = read_manifest(bundle), ModelCard.load(bundle / "README.md")
    assert (card.data.license, card.data.library_name) == ("other", "onnx")
    assert card.data.eval_results is not None
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["ndcg_at_k"] == pytest.approx(manifest.metrics["ndcg_at_k"], rel=1e-5)
    assert ("rmse" in found) == (manifest.model.scores == "ratings")
    assert card.text.lstrip().startswith(f"# {manifest.model.title}")
    assert manifest.data.licence in card.text
    for title, value in (("nDCG@10", manifest.metrics["ndcg_at_k"]),):
        assert re.search(rf"\| {title} \| {value:.4f} \|", card.text)


def hostile(manifest: Manifest) -> Manifest:
    name = 'a: "b"\n---\n# <script>alert(1)</script> [x](javascript:y) | {{ z }}'
    data = msgspec.structs.replace(manifest.data, name=name, licence=f"{name}\n\n# More")
    return msgspec.structs.replace(manifest, data=data)


def test_names_stay_text() -> None:
    """Neither the header nor the page is steered by the name of a data set."""
    manifest = hostile(read_manifest(FIXTURES / "dot"))
    card = ModelCard(model_card(manifest))
    assert card.data.eval_results[0].dataset_name == manifest.data.name
    assert "<script>" not in card.text.replace("\\<", "")
    headings = [line for line in card.text.splitlines() if line.startswith("#")]
    assert [line.split(" ")[0] for line in headings] == ["#", "##", "##", "##", "##", "##"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bom(manifest, {}).decode()) is None


def test_the_card_of_changed_bundles() -> None:
    manifest = read_manifest(FIXTURES / "dot")
    manifest = msgspec.structs.replace(
        manifest,
        without_seen=True,
        forgotten=[Forgotten(base_version="0", n_users=2)],
        metrics={"n_held_out": 0},
    )
    card = ModelCard(model_card(manifest))
    assert card.data.eval_results is None
    assert "28 users" in card.text
    assert "exclude_seen=False" in card.text
    assert "Measured" not in card.text


def test_the_bill_of_materials_keeps_the_schema(bundle: Path) -> None:
    raw = (bundle / "bom.cdx.json").read_text(encoding="utf-8")
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(raw)
    assert problem is None, str(problem)[:2000]
    document, manifest = json.loads(raw), read_manifest(bundle)
    assert document["metadata"]["component"]["type"] == "machine-learning-model"
    files = {
        one["name"]: one["hashes"][0]["content"] for one in document["components"] if one["type"] == "file"
    }
    assert set(files) == set(manifest.files) - {"README.md", "bom.cdx.json"}
    for name, digest in files.items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
