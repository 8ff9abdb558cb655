"""The sections of the report, each from the manifest alone; None where it has nothing to say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from demos.report.axes import number
from demos.report.charts import Line, bars, lines, points
from demos.report.factor_map import FactorMap
from demos.report.markup import Markup, element, join
from serve.bundle.manifest import Manifest, PopularityBand

METRICS = {
    "RMSE": "rmse",
    "MAE": "mae",
    "nDCG@{k}": "ndcg_at_k",
    "recall@{k}": "recall_at_k",
    "precision@{k}": "precision_at_k",
    "MRR@{k}": "mrr_at_k",
    "hit rate@{k}": "hit_rate_at_k",
}
N_LISTED = 12


def tiles(manifest: Manifest) -> Markup:
    """The figures that people look for first."""
    metrics, model = manifest.metrics, manifest.model
    k = metrics.get("k", 10)
    shown = {
        "RMSE, held out": figure(metrics.get("rmse")),
        "MAE, held out": figure(metrics.get("mae")),
        f"nDCG@{k}": figure(metrics.get("ndcg_at_k")),
        "parity with torch": element("span", "passed", class_="good")
        if manifest.parity.passed
        else element("span", "failed", class_="bad"),
        "users": f"{model.n_users:,}",
        "items": f"{model.n_items:,}",
        "ratings": f"{manifest.data.n_ratings:,}",
        "size": size(sum(file.bytes for file in manifest.files.values())),
    }
    cells = [element("div", element("dt", name), element("dd", value)) for name, value in shown.items()]
    return element("dl", *cells, class_="tiles")


def quality(manifest: Manifest) -> Markup | None:
    """Metrics beside the baselines."""
    metrics = manifest.metrics
    baselines = metrics.get("baselines")
    if "rmse" not in metrics:
        return None
    k = metrics.get("k", 10)
    rows = {"this model": metrics, **(baselines if isinstance(baselines, Mapping) else {})}
    table = _table(
        ["", *(name.format(k=k) for name in METRICS)],
        [
            [name.replace("_", " "), *(figure(found.get(key)) for key in METRICS.values())]
            for name, found in rows.items()
            if isinstance(found, Mapping)
        ],
        first_is_own=True,
    )
    about = (
        f"On {count(metrics.get('n_held_out'))} ratings held out of the training. RMSE and MAE are in "
        f"ratings; lower is better. The others rank every item that the user has not rated in training; "
        f"higher is better."
    )
    return _section("How good it is", about, table, wide=True)


def learning(manifest: Manifest) -> Markup | None:
    """Error by epoch."""
    history = manifest.training.history
    if not history:
        return None
    roots = [epoch["train_loss"] ** 0.5 if epoch.get("train_loss", -1) >= 0 else None for epoch in history]
    series = [
        Line("training (RMSE while learning)", roots),
        Line("held out (RMSE)", [epoch.get("valid_rmse") for epoch in history]),
        Line("held out (MAE)", [epoch.get("valid_mae") for epoch in history]),
    ]
    series = [line for line in series if any(value is not None for value in line.y)]
    if not series:
        return None
    epochs = [int(epoch.get("epoch", place)) for place, epoch in enumerate(history, 1)]
    drawn = lines(
        epochs, series, "epoch", "error (ratings)", "Error in training and on held-out ratings, by epoch"
    )
    return _section("Learning curves", "Error after each epoch.", drawn)


def histogram(manifest: Manifest) -> Markup | None:
    """Held-out ratings against their predictions."""
    held_out = manifest.held_out
    if held_out is None:
        return _missing("Ratings and predictions")
    labels = [number(round(rating, 2)) for rating in held_out.ratings]
    series = [("ratings", held_out.n_observed), ("predictions", held_out.n_predicted)]
    drawn = bars(labels, series, "rating", "how many", "Held-out ratings and predictions, how many of each")
    about = (
        f"{held_out.n:,} held-out ratings, and what was predicted for them, rounded to the nearest rating. "
        f"Predictions lie closer together: the safest guess is the middle."
    )
    return _section("Ratings and predictions", about, drawn)


def popularity(manifest: Manifest) -> Markup | None:
    """Error by how often the item was rated."""
    held_out = manifest.held_out
    if held_out is None:
        return _missing("Error by popularity")
    bands = held_out.by_popularity
    drawn = bars(
        [_band(band) for band in bands],
        [("RMSE", [band.rmse for band in bands])],
        "training ratings of the item",
        "RMSE (ratings)",
        "Error on held-out ratings, by how often the item was rated in training",
        [f"{band.n:,}" for band in bands],
    )
    about = "Items that few have rated are harder to place. Above each bar: its number of held-out ratings."
    return _section("Error by popularity", about, drawn)


def item_map(found: FactorMap) -> Markup | None:
    """The factor map."""
    if not found.points:
        return None
    about = (
        f"The {len(found.points):,} most rated items by the two directions in which their factors vary most "
        f"({found.explained:.0%} of the variance). Items that lie near each other tend to be liked by the "
        f"same people. Hover for titles."
    )
    drawn = points(found.points, found.series, "Map of the most rated items by their factors")
    return _section("Factor map", about, drawn, wide=True)


def parity(manifest: Manifest) -> Markup:
    """Each graph against torch."""
    rows = [
        [
            check.graph,
            check.provider,
            f"{check.n:,}",
            f"{check.max_error:.1e}",
            f"{check.mean_error:.1e}",
            f"{check.tolerance:.1e}",
            "" if check.list_agreement is None else f"{check.list_agreement:.1%}",
            element("span", "yes", class_="good") if check.passed else element("span", "no", class_="bad"),
        ]
        for check in manifest.parity.checks
    ]
    head = ["graph", "on", "asked", "largest error", "mean error", "allowed", "lists equal", "agrees"]
    about = (
        "Every graph against the trained torch model. Errors are in ratings; in cosines for similar_items."
    )
    return _section("Parity with torch", about, _table(head, rows, text_columns={1}), wide=True)


def sizes(manifest: Manifest) -> Markup:
    """The files."""
    files = sorted(manifest.files.items(), key=lambda pair: -pair[1].bytes)
    largest = max((file.bytes for _, file in files), default=1) or 1
    rows = [[name, _share(file.bytes / largest), f"{file.bytes:,}"] for name, file in files]
    rows.append(["all files", "", f"{sum(file.bytes for _, file in files):,}"])
    return _section(
        "Sizes", "The files of the bundle.", _table(["file", "", "bytes"], rows, text_columns={1})
    )


def tables(manifest: Manifest) -> Markup:
    """The tables inside the graphs."""
    rows = [
        [
            table.name,
            " × ".join(f"{side:,}" for side in table.shape),
            table.dtype,
            f"{table.bytes:,}",
            ", ".join(table.graphs),
        ]
        for table in manifest.tables
    ]
    about = "What the graphs hold of the model. Row 0 of a table of users or items is the average."
    head = ["table", "shape", "type", "bytes", "graphs"]
    return _section("Tables", about, _table(head, rows, text_columns={4}), wide=True)


def additions(manifest: Manifest) -> Markup | None:
    """Items that were added after training."""
    if not manifest.additions:
        return None
    rows = [
        [
            addition.data,
            ", ".join(map(str, addition.item_ids[:N_LISTED]))
            + ("…" if len(addition.item_ids) > N_LISTED else ""),
            f"{len(addition.item_ids):,}",
            f"{sum(addition.n_item_ratings):,}",
            f"{addition.regularization:g}",
            figure(addition.left_out_rmse),
            f"{addition.base_version[:12]}…",
        ]
        for addition in manifest.additions
    ]
    head = ["from", "item ids", "items", "ratings", "λ", "RMSE left out", "added to version"]
    about = "Items that came after training, folded in from their ratings. The quality above is older."
    return _section("Added items", about, _table(head, rows, text_columns={1}), wide=True)


def origin(manifest: Manifest) -> Markup:
    """Data, split, settings, versions."""
    model, data = manifest.model, manifest.data
    unbounded = "unbounded" if model.score_range is None else "{:g} to {:g}".format(*model.score_range)
    facts: dict[str, Any] = {
        "model": f"{model.kind}; {_settings(model.config)}",
        "scores": unbounded,
        "data": f"{data.name}, ratings from {data.ratings_range[0]:g} to {data.ratings_range[1]:g}",
        "terms of the data": data.licence,
        "SHA-256 of the data": element("code", data.sha256),
        "split": _settings(manifest.split),
        "training": _settings({**manifest.training.settings, "seed": manifest.training.seed}),
        "graphs": f"{', '.join(manifest.graphs)}; opset {manifest.opset}, IR version {manifest.ir_version}",
        "made with": _settings(manifest.versions),
    }
    rows = [join(element("dt", name), element("dd", value)) for name, value in facts.items()]
    return _section("Where it comes from", None, element("dl", *rows, class_="facts"), wide=True)


def figure(value: Any) -> str:
    """A metric with four digits; a dash where there is none."""
    return f"{value:.4f}" if isinstance(value, (int, float)) else "–"


def count(value: Any) -> str:
    """A whole number; a dash where there is none."""
    return f"{value:,}" if isinstance(value, int) else "–"


def size(n_bytes: int) -> str:
    """Bytes as people say them."""
    value, units = float(n_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "bytes" else f"{value:.1f} {units[0]}"


def _band(band: PopularityBand) -> str:
    if band.highest is None:
        return f"{band.lowest:,}+"
    return f"{band.lowest:,}" if band.highest == band.lowest else f"{band.lowest:,}–{band.highest:,}"


def _settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in values.items() if value is not None
    )


def _share(share: float) -> Markup:
    return element("span", element("span", style=f"width:{share:.1%}"), class_="share")


def _missing(title: str) -> Markup:
    return _section(title, "The bundle does not hold the figures. Export it again to have them.", Markup(""))


def _section(title: str, about: str | None, content: Markup, wide: bool = False) -> Markup:
    return element(
        "section",
        element("h2", title),
        None if about is None else element("p", about, class_="about"),
        # Wide tables scroll: the keyboard must get there, too.
        element("figure", element("div", content, class_="scroll", tabindex="0")),
        class_="wide" if wide else None,
    )


def _table(
    head: Sequence[str],
    rows: Sequence[Sequence[Any]],
    text_columns: Collection[int] = (),
    first_is_own: bool = False,
) -> Markup:
    def cell(name: str, place: int, value: Any) -> Markup:
        return element(name, value, class_="text" if place in text_columns else None)

    body = [
        element(
            "tr",
            *(cell("td", place, value) for place, value in enumerate(row)),
            class_="own" if first_is_own and order == 0 else None,
        )
        for order, row in enumerate(rows)
    ]
    top = element("tr", *(cell("th", place, name) for place, name in enumerate(head)))
    return element("table", element("thead", top), element("tbody", *body))
