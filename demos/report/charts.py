"""The report's charts, drawn by matplotlib as SVG and coloured by the page's style sheet.

A chart is drawn in the style sheet's light colours; in the SVG each of them becomes the CSS variable of the
same colour, so that one chart serves light, dark and print. Texts stay texts, in the page's font.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup

from demos.report.comparison import Agreement
from demos.report.factor_map import FactorMap
from demos.report.render import number
from serve.bundle.manifest import HeldOut, PopularityBand
from serve.terminal import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = ["#1f6fb4", "#d9750b", "#1b9e77", "#c1539b", "#4aa5d8", "#c8442f", "#7a5ab5", "#9aa3ad"]
INK, QUIET, RULE, PANEL = "#1c2430", "#5b6675", "#dde2e8", "#f6f7f9"
VARIABLES = {INK: "ink", QUIET: "quiet", RULE: "rule", PANEL: "panel"}
VARIABLES |= {color: f"s{place}" for place, color in enumerate(SERIES)}
WIDTH, HEIGHT = 480, 280
MAP_WIDTH, MAP_HEIGHT = 900, 640
# The SVG backend draws 72 dots per inch: a point is a pixel.
DPI = 72
STYLE: dict[Any, object] = {
    "axes.axisbelow": True,
    "axes.labelcolor": QUIET,
    "axes.labelpad": 6,
    "axes.labelsize": 13,
    "figure.dpi": DPI,
    "font.size": 13,
    "grid.color": RULE,
    "grid.linewidth": 1,
    "svg.fonttype": "none",
    "text.color": QUIET,
    "text.parse_math": False,  # a "$" in a title is a character
    "xtick.bottom": False,
    "xtick.labelcolor": QUIET,
    "ytick.left": False,
    "ytick.labelcolor": QUIET,
}
MARKER: dict[str, Any] = {"alpha": 0.8, "markeredgecolor": PANEL, "markeredgewidth": 0.6, "clip_on": False}


class Chart(NamedTuple):
    """A chart, and the names of its series in the order of their colours."""

    svg: Markup
    series: list[str]


def learning(history: Sequence[dict[str, int | float]]) -> Chart | None:
    """Error by epoch, or by iteration of a fit; None where the history has none."""
    names = {
        "train_loss": "training (RMSE while learning)",
        "train_rmse": "training (RMSE of a draw)",
        "valid_rmse": "held out (RMSE)",
        "valid_mae": "held out (MAE)",
    }
    unit = "iteration" if any("iteration" in row for row in history) else "epoch"
    epochs = [int(row.get(unit, place)) for place, row in enumerate(history, 1)]
    series = {}  # name -> [(epoch, error)]
    for key, name in names.items():
        power = 0.5 if key == "train_loss" else 1.0
        pairs = zip(epochs, history, strict=True)
        if points := [(epoch, row[key] ** power) for epoch, row in pairs if row.get(key, -1) >= 0]:
            series[name] = points
    if not series:
        return None
    label = f"Error in training and on held-out ratings, by {unit}"
    with _axes(unit, "error (ratings)", label) as axes:
        for color, (name, points) in zip(SERIES, series.items(), strict=False):
            axes.plot(*zip(*points, strict=True), color=color, linewidth=2.4)
            for epoch, value in points:
                title = f"{name}, {unit} {epoch}: {value:.4f}"
                axes.plot(epoch, value, "o", color=color, markersize=7, clip_on=False, gid=title)
        margin = 0.2 * max(1, (max(epochs) - min(epochs)) / 10)
        axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
        _ticks(axes, epochs, [str(epoch) for epoch in epochs])
        return Chart(_svg(axes, label), list(series))


def histogram(held_out: HeldOut) -> Chart:
    """How often each held-out rating and each prediction occurs."""
    label = "Held-out ratings and predictions, how many of each"
    ratings = [number(round(rating, 2)) for rating in held_out.ratings]
    series = {"ratings": held_out.n_observed, "predictions": held_out.n_predicted}
    with _axes("rating", "how many", label) as axes:
        _bars(axes, ratings, series)
        return Chart(_svg(axes, label), list(series))


def popularity(bands: Sequence[PopularityBand]) -> Chart:
    """Error by how often the item was rated in training; above each bar the number of held-out ratings."""
    label = "Error on held-out ratings, by how often the item was rated in training"
    with _axes("training ratings of the item", "RMSE (ratings)", label) as axes:
        _bars(axes, [_band(band) for band in bands], {"RMSE": [band.rmse for band in bands]})
        axes.bar_label(axes.containers[0], [number(band.n) for band in bands], padding=3, fontsize=12)  # type: ignore[arg-type]
        return Chart(_svg(axes, label), ["RMSE"])


def overlap(found: Agreement) -> Chart:
    """Users by how many items their lists by two bundles have in common."""
    label = "Users by how many items both of their lists have"
    with _axes("items in both lists", "users", label) as axes:
        _bars(axes, [str(n) for n in range(found.k + 1)], {"users": found.counts})
        return Chart(_svg(axes, label), ["users"])


def factor_map(found: FactorMap) -> Chart:
    """Items as points, and their labels where there is room."""
    label = "Map of the most rated items by their factors"
    with _axes("", "", label, (MAP_WIDTH, MAP_HEIGHT), layout=None) as axes:
        axes.set_axis_off()
        axes.set_autoscale_on(False)
        axes.set_position((0.015, 0.02, 0.97, 0.96))
        x, y = [point.x for point in found.points], [point.y for point in found.points]
        axes.set_xlim(min(x), max(x) if max(x) > min(x) else min(x) + 1)
        axes.set_ylim(min(y), max(y) if max(y) > min(y) else min(y) + 1)
        # The most rated last, above the others.
        for point in reversed(found.points):
            size, color, title = 10 if point.label else 6, SERIES[point.series], _line(point.title)
            axes.plot(point.x, point.y, "o", color=color, markersize=size, gid=title, **MARKER)
        _label(axes, found)
        return Chart(_svg(axes, label), found.series)


def _label(axes: Axes, found: FactorMap) -> None:
    """Write each label beside its point, to the right or else to the left, where it covers no other label."""
    taken: list[Any] = []
    style: dict[str, Any] = {
        "textcoords": "offset points",
        "va": "center_baseline",
        "fontsize": 12,
        "color": INK,
    }
    for point in found.points:
        for side, offset in (("left", 8), ("right", -8)) if point.label is not None else ():
            text = axes.annotate(_line(point.label or ""), (point.x, point.y), (offset, 0), ha=side, **style)
            # The browser's font may be wider and higher than the one that is measured.
            box = text.get_window_extent().padded(5, 3)
            if box.x0 >= 0 and box.x1 <= MAP_WIDTH and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


@contextmanager
def _axes(
    x_name: str,
    y_name: str,
    label: str,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    layout: Literal["constrained"] | None = "constrained",
) -> Iterator[Axes]:
    """Axes in the report's style, independent of matplotlibrc; `size` is in pixels."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        # Matplotlib's fonts only measure the text, which the browser draws in its own.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        matplotlib.rcdefaults()
        # Ids in the SVG come from the salt and the content: the charts of a page share none.
        matplotlib.rcParams.update({**STYLE, "svg.hashsalt": label})
        inches = (size[0] / DPI, size[1] / DPI)
        axes = Figure(inches, frameon=False, layout=layout).subplots(subplot_kw={"frame_on": False})
        axes.set(xlabel=x_name, ylabel=y_name)
        axes.yaxis.set_major_formatter("{x:,.12g}")
        axes.locator_params(axis="y", nbins=6)
        axes.grid(axis="y", clip_on=False)
        yield axes


def _bars(axes: Axes, labels: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Groups of bars from zero, one group for each label."""
    width = 0.76 / len(series)
    for place, (name, values) in enumerate(series.items()):
        left = [group + 0.12 + width * place for group in range(len(labels))]
        bars = axes.bar(left, values, width * 0.96, align="edge", color=SERIES[place])
        for bar, label, value in zip(bars, labels, values, strict=True):
            bar.set_gid(f"{axes.get_xlabel()} {label}, {name}: {number(value)}")
    axes.set_xlim(0, len(labels))
    _ticks(axes, [group + 0.5 for group in range(len(labels))], labels)


def _ticks(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    """Label places of the x axis; give the y axis round ticks that enclose the data."""
    # Every nth label, so that they don't overlap.
    widest = 8 * max(len(label) for label in labels) + 10
    every = math.ceil(widest * len(labels) / (0.85 * WIDTH))
    axes.set_xticks(places[::every], labels[::every])
    low, high = axes.dataLim.intervaly
    ticks = axes.yaxis.get_major_locator().tick_values(low, high if high > low else low + 1)
    axes.set_yticks(ticks)
    axes.set_ylim(ticks[0], ticks[-1])


def _svg(axes: Axes, label: str) -> Markup:
    """The chart as an HTML element; `label` is for screen readers."""
    file = BytesIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    axes.figure.canvas.print_figure(file, format="svg", metadata=metadata)
    root = ElementTree.fromstring(file.getvalue())
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    root.remove(root[0])  # a style sheet, which would apply to the whole page
    for element in list(root.iter()):
        element.tag = element.tag.rpartition("}")[2]
        for key in [key for key in element.attrib if key.startswith("{")]:
            element.attrib[key.rpartition("}")[2]] = element.attrib.pop(key)
        if element.tag == "g" and (name := element.attrib.pop("id", "")) and ": " in name:
            title = ElementTree.Element("title")
            title.text = name
            element.insert(0, title)
        if style := element.get("style"):
            style = re.sub("#[0-9a-f]{6}", lambda found: f"var(--{VARIABLES[found[0]]})", style)
            element.set("style", re.sub("font-family: [^;]*(; )?", "", style))
        element.tail = None
        if not (element.text or "").strip():
            element.text = None
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _line(text: str) -> str:
    """Text on one line without control characters, which XML can't hold."""
    return printable(" ".join(text.split()))


def _band(band: PopularityBand) -> str:
    if band.highest is None:
        return f"{band.lowest:,}+"
    return f"{band.lowest:,}" if band.highest == band.lowest else f"{band.lowest:,}–{band.highest:,}"
