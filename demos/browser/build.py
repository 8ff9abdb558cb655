"""Builds the page: a folder with ONNX Runtime Web, a bundle's graphs, and its items as JSON.

`python -m demos.browser.build BUNDLE OUTPUT`; needs `npm ci --prefix demos/browser` first.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any

import click
import msgspec
import numpy as np

from demos.report.factor_map import item_counts
from demos.report.popularity import popularity_bands
from serve import Recommender, open_bundle
from serve.bundle.item_rules import N_RATINGS, number_table
from serve.bundle.manifest import Manifest
from serve.bundle.shards import list_graphs
from serve.bundle.titles import displayed
from serve.errors import ServeError, UnsupportedError
from serve.files.atomic import new_folder
from serve.files.names import CONFORMANCE_NAME, TABLES_NAME

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
# The plain build, and the one with WebGPU, almost twice as large. A browser loads one of them.
WASM_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
RUNTIME_FILES = (
    *WASM_FILES,
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
# Runs conformance cases in any ONNX Runtime for JavaScript.
CHECK_MODULE = HERE.parent / "node" / "check.mjs"
PAGE_MODULES = ("app.mjs", "model.mjs", "runtime.mjs", CHECK_MODULE.name)
MARKER = "index.html"


def build(bundle_path: Path, output: Path, packages: Path = PACKAGES) -> int:
    """Build the page in the folder `output`, replacing an earlier one.

    `packages` is the `node_modules` that holds onnxruntime-web.

    Returns:
        The bytes that a browser loads for the first list.

    Raises:
        BundleError: the bundle is damaged.
        UnsupportedError: its tables are in `tables.bin`, or onnxruntime-web is not installed.
        OutputError: `output` exists and is not such a page.
    """
    bundle = open_bundle(bundle_path)
    if TABLES_NAME in bundle.manifest.files:
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
            if name.endswith(".wasm"):  # a quarter of the bytes, from any file server
                _pack(folder / "ort" / name, (runtime / name).read_bytes())
            else:
                shutil.copyfile(runtime / name, folder / "ort" / name)
        (folder / "bundle").mkdir()
        for name in (CONFORMANCE_NAME, *(graph.file for graph in bundle.manifest.graphs.values())):
            _pack(folder / "bundle" / name, bundle.file(name).read_bytes())
        _pack(folder / "bundle" / "items.json", msgspec.json.encode(_items(recommender)))
        _pack(folder / "bundle" / "about.json", msgspec.json.encode(_about(recommender)))
        return _first_list_bytes(folder, _graphs(bundle.manifest)["recommend"])


def _first_list_bytes(folder: Path, graphs: list[str]) -> int:
    page = [folder / name for name in ("index.html", "style.css", *PAGE_MODULES)]
    runtime = [folder / "ort" / name for name in WASM_FILES]
    documents = [folder / "bundle" / f"{name}.json" for name in ("about", "items", "conformance")]
    files = [*page, *runtime, *documents, *(folder / "bundle" / f"{graph}.onnx" for graph in graphs)]
    return sum((file if file.exists() else _packed(file)).stat().st_size for file in files)


def _packed(path: Path) -> Path:
    """`path` with ".gzipped" added, which no server takes for an encoding of its own."""
    return path.with_name(f"{path.name}.gzipped")


def _pack(path: Path, content: bytes) -> None:
    _packed(path).write_bytes(gzip.compress(content, mtime=0))


def _items(recommender: Recommender) -> dict[str, list[Any]]:
    """Columns in index order, item 1 first. Ids are text, since JSON has no int64."""
    items = [recommender.items[index] for index in range(1, len(recommender.items) + 1)]
    return {
        "id": [str(item.item_id) for item in items],
        "title": [displayed(recommender.items.label(item.item_index)) for item in items],
        "genres": [list(item.genres) for item in items],
        "n_ratings": item_counts(recommender.bundle)[1:].tolist(),
    }


def _graphs(manifest: Manifest) -> dict[str, list[str]]:
    """The graphs behind each kind of answer, those with rules first of all; none where the model has none."""

    def first(*names: str) -> list[str]:
        return [name for name in names if name in manifest.graphs][:1]

    return {
        "recommend": first("recommend_filtered") or list_graphs(manifest.graphs),
        "fold_in": first("fold_in_filtered", "fold_in"),
        "similar_items": first("similar_items"),
        "variety": first("variety"),
        "explain": first("explain"),
    }


def _about(recommender: Recommender) -> dict[str, Any]:
    """What the page says about the model."""
    manifest = recommender.manifest
    model, data = manifest.model, manifest.data
    return {
        "model": model.title,
        "n_users": model.n_users,
        "n_items": model.n_items,
        "n_ratings": data.n_ratings,
        "ratings_range": list(data.ratings_range),
        "lists": model.lists,
        "list_span": model.list_span,
        "data": data.name,
        "licence": data.licence,
        "graphs": _graphs(manifest),
        "rules": _rules(recommender),
        "tolerance": {name: manifest.graphs[name].tolerance for name in sorted(manifest.graphs)},
    }


def _rules(recommender: Recommender) -> dict[str, Any] | None:
    """What the graphs with rules can be asked; None: there are none."""
    rules = recommender.manifest.item_rules
    if rules is None:
        return None
    years = [year for year in recommender.items.years or [] if year is not None]
    counts = recommender.bundle.table(number_table(N_RATINGS))[0].astype(np.int64)
    return {
        "categories": rules.categories,
        "numbers": rules.numbers,
        "years": [min(years), max(years)] if years else None,
        "popularity": list(popularity_bands(counts).items()),
    }


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(bundle: Path, output: Path) -> None:
    """Build the page for BUNDLE in the folder OUTPUT."""
    try:
        size = build(bundle, output)
    except ServeError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"The first list takes {size / 1e6:.1f} MB.")
    click.echo(f"{output}: serve it with `python -m http.server --bind 127.0.0.1 --directory {output}`")


if __name__ == "__main__":
    main()
