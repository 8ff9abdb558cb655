"""Builds the page: ONNX Runtime Web, a bundle's graphs, and its items as JSON, in one folder to be served.

`python -m demos.browser.build BUNDLE OUTPUT`; needs `npm ci --prefix demos/browser` first.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from serve.bundle.bundle import open_bundle
from serve.errors import ServeError, UnsupportedError
from serve.files.atomic import new_folder
from serve.files.names import CONFORMANCE_NAME
from serve.runtime.recommender import Recommender

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
# The plain build for every browser, and the larger one that also has WebGPU. A browser loads one of them.
RUNTIME_FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
# Runs conformance cases in any ONNX Runtime for JavaScript.
CHECK_MODULE = HERE.parent / "node" / "check.mjs"
MARKER = "index.html"


def build(bundle_path: Path, output: Path, packages: Path = PACKAGES) -> None:
    """Make `output`, replacing a page that is there.

    Args:
        bundle_path: a bundle.
        output: the folder to make.
        packages: the `node_modules` that holds onnxruntime-web.

    Raises:
        BundleError: the bundle is damaged.
        UnsupportedError: its tables lie in a file of their own, or onnxruntime-web is not installed.
        OutputError: `output` is there and is no page of ours.
    """
    bundle = open_bundle(bundle_path)
    if "tables.bin" in bundle.manifest.files:
        raise UnsupportedError(
            f"{bundle_path} keeps its tables in tables.bin, which browsers can't read reliably. Export it "
            f"with --tables never."
        )
    runtime = packages / "onnxruntime-web" / "dist"
    missing = [name for name in RUNTIME_FILES if not (runtime / name).exists()]
    if missing:
        raise UnsupportedError(f"{runtime / missing[0]} is missing. Run `npm ci --prefix demos/browser`.")
    recommender = Recommender(bundle, "cpu")
    with new_folder(output, overwrite=True, marker=MARKER) as folder:
        shutil.copytree(HERE / "page", folder, dirs_exist_ok=True)
        shutil.copyfile(CHECK_MODULE, folder / CHECK_MODULE.name)
        (folder / "ort").mkdir()
        for name in RUNTIME_FILES:
            shutil.copyfile(runtime / name, folder / "ort" / name)
        (folder / "bundle").mkdir()
        for name in (CONFORMANCE_NAME, *(graph.file for graph in bundle.manifest.graphs.values())):
            shutil.copyfile(bundle.file(name), folder / "bundle" / name)
        (folder / "bundle" / "items.json").write_bytes(msgspec.json.encode(_items(recommender)))
        (folder / "bundle" / "about.json").write_bytes(msgspec.json.encode(_about(recommender)))


def _items(recommender: Recommender) -> dict[str, list[Any]]:
    """Columns in index order; the first entry stands for item 1. Ids as text: JSON has no int64."""
    items = [recommender.items[index] for index in range(1, len(recommender.items) + 1)]
    return {
        "id": [str(item.item_id) for item in items],
        "title": [item.title if item.title is not None else str(item.item_id) for item in items],
        "genres": [list(item.genres) for item in items],
        "n_ratings": _n_ratings(recommender).tolist(),
    }


def _n_ratings(recommender: Recommender) -> np.ndarray:
    """How often each item was rated: int64 [n_items]."""
    model = recommender.manifest.model
    counts = np.zeros(model.n_items + 1, np.int64)
    for start in range(1, model.n_users + 1, 1024):
        users = np.arange(start, min(start + 1024, model.n_users + 1))
        counts += np.bincount(recommender.seen.padded(users).ravel(), minlength=len(counts))
    return counts[1:]


def _about(recommender: Recommender) -> dict[str, Any]:
    """What the page says of the model."""
    manifest = recommender.manifest
    return {
        "model": manifest.model.kind,
        "n_users": manifest.model.n_users,
        "n_items": manifest.model.n_items,
        "n_ratings": manifest.data.n_ratings,
        "ratings_range": list(manifest.data.ratings_range),
        "data": manifest.data.name,
        "licence": manifest.data.licence,
        "tolerance": {name: manifest.graphs[name].tolerance for name in sorted(manifest.graphs)},
    }


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(bundle: Path, output: Path) -> None:
    """Build the page for BUNDLE in the folder OUTPUT."""
    try:
        build(bundle, output)
    except ServeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{output}: serve it with `python -m http.server --bind 127.0.0.1 --directory {output}`")


if __name__ == "__main__":
    main()
