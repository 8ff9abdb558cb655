"""The last step of making a bundle: what describes it to people and tools, and the manifest of all files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from export.write.bom import bom
from export.write.graph_files import describe_file, list_files
from export.write.model_card import model_card
from serve.bundle.manifest import Manifest, encode_manifest
from serve.files.atomic import write_file
from serve.files.names import BOM_NAME, CARD_NAME, MANIFEST_NAME


def finish(folder: Path, manifest: Manifest) -> Manifest:
    """Write `README.md`, `bom.cdx.json` and `manifest.json` to a folder that has all else; again, if need be.

    Returns the manifest with the files of the folder.
    """
    for name in (MANIFEST_NAME, CARD_NAME, BOM_NAME):
        (folder / name).unlink(missing_ok=True)
    files = list_files(folder)
    (folder / CARD_NAME).write_text(model_card(manifest), encoding="utf-8")
    (folder / BOM_NAME).write_bytes(bom(manifest, files))
    files |= {name: describe_file(folder / name) for name in (CARD_NAME, BOM_NAME)}
    manifest = msgspec.structs.replace(manifest, files=dict(sorted(files.items())))
    write_file(folder / MANIFEST_NAME, encode_manifest(manifest))
    return manifest
