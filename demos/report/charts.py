"""The charts of the report, as SVG: lines, grouped bars, one bar a row, a map of points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from demos.report.axes import (
    LEFT,
    RIGHT,
    SERIES,
    WIDTH,
    Scale,
    below,
    chart,
    grid,
    horizontal,
    legend,
    number,
    vertical,
)
from demos.report.markup import Markup, element, join

MAP_WIDTH, MAP_HEIGHT = 900, 640
MAP_MARGIN = 14
LETTER = 6.2


class Line(NamedTuple):
    """A series; y None where there is no value."""

    name: str
    y: Sequence[float | None]


class Point(NamedTuple):
    """A point of a map. `label` is shown beside it where there is room."""

    x: float
    y: float
    series: int
    title: str
    label: str | None


def lines(x: Sequence[int], series: Sequence[Line], x_name: str, y_name: str, label: str) -> Markup:
    """Series over whole numbers, with a dot at each value."""
    values = [value for line in series for value in line.y if value is not None]
    y, marks = vertical(values)
    across = horizontal(min(x), max(x)) if len(x) > 1 else Scale(x[0] - 1, x[0] + 1, LEFT, WIDTH - RIGHT)
    drawn = []
    for place, line in enumerate(series):
        points = [(at, value) for at, value in zip(x, line.y, strict=True) if value is not None]
        path = " ".join(f"{across(at)},{y(value)}" for at, value in points)
        drawn.append(element("polyline", points=path, class_=f"line series-{place}"))
        drawn += [
            element(
                "circle",
                element("title", f"{line.name}, {x_name} {at}: {value:.4f}"),
                cx=across(at),
                cy=y(value),
                r=3.5,
                class_=f"dot series-{place}",
            )
            for at, value in points
        ]
    parts = [grid(y, marks, y_name), below([across(at) for at in x], [str(at) for at in x], x_name), *drawn]
    return join(chart(*parts, label=label), legend([line.name for line in series], "round"))


def bars(
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    x_name: str,
    y_name: str,
    label: str,
    notes: Sequence[str] | None = None,
) -> Markup:
    """Groups of bars from zero. `notes` stand above each group."""
    y, marks = vertical([value for _, values in series for value in values], from_zero=True)
    across = horizontal(0, len(labels))
    drawn = []
    for group, name in enumerate(labels):
        for place, (series_name, values) in enumerate(series):
            left = across(group + 0.12 + 0.76 * place / len(series))
            right = across(group + 0.12 + 0.76 * (place + 1) / len(series))
            drawn.append(
                element(
                    "rect",
                    element("title", f"{x_name} {name}, {series_name}: {number(values[group])}"),
                    x=left,
                    y=y(values[group]),
                    width=round(max(1.0, right - left - 1), 1),
                    height=round(y(0) - y(values[group]), 1),
                    class_=f"bar series-{place}",
                )
            )
        if notes is not None:
            top = min(y(values[group]) for _, values in series)
            drawn.append(
                element("text", notes[group], x=across(group + 0.5), y=top - 5, class_="note middle")
            )
    centres = [across(group + 0.5) for group in range(len(labels))]
    parts = [grid(y, marks, y_name), *drawn, below(centres, labels, x_name)]
    key = legend([name for name, _ in series]) if len(series) > 1 else None
    return join(chart(*parts, label=label), key)


def points(found: Sequence[Point], series: Sequence[str], label: str) -> Markup:
    """A map: points by series, titles to hover, labels where they don't cover each other."""
    x = Scale(min(p.x for p in found), max(p.x for p in found), MAP_MARGIN, MAP_WIDTH - MAP_MARGIN)
    y = Scale(min(p.y for p in found), max(p.y for p in found), MAP_HEIGHT - MAP_MARGIN, MAP_MARGIN)
    dots = [
        element(
            "circle",
            element("title", point.title),
            cx=x(point.x),
            cy=y(point.y),
            r=5 if point.label else 3,
            class_=f"point series-{point.series % SERIES}",
        )
        # The labelled ones last, above the others.
        for point in sorted(found, key=lambda point: point.label is not None)
    ]
    texts: list[Markup] = []
    taken: list[tuple[float, float, float, float]] = []
    for point in found:
        if point.label is None:
            continue
        width = LETTER * len(point.label)
        to_right = x(point.x) + 8 + width < MAP_WIDTH
        left = x(point.x) + 8 if to_right else x(point.x) - 8 - width
        box = (left, y(point.y) - 7, left + width, y(point.y) + 7)
        if any(_overlap(box, other) for other in taken):
            continue
        taken.append(box)
        anchor = left if to_right else left + width
        text_class = "label" if to_right else "label end"
        texts.append(element("text", point.label, x=round(anchor, 1), y=y(point.y) + 4, class_=text_class))
    picture = chart(*dots, *texts, label=label, size=(MAP_WIDTH, MAP_HEIGHT))
    key = legend(series, "round") if len(series) > 1 else None
    return join(element("div", picture, class_="map"), key)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
