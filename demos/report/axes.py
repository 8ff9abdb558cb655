"""The frame of a chart: scales, ticks, grid lines, labels. Colours are the page's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from demos.report.markup import Markup, element, join

WIDTH, HEIGHT = 480, 280
LEFT, RIGHT, TOP, BOTTOM = 66, 10, 16, 46
SMALLEST = 1e-9
# Every class in style.css that colours a series.
SERIES = 8


@dataclass(frozen=True)
class Scale:
    """From values to places in the picture."""

    low: float
    high: float
    start: float
    """Where `low` lies (pixels)."""
    end: float
    """Where `high` lies."""

    def __call__(self, value: float) -> float:
        """The place of a value, in tenths of a pixel."""
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)


def ticks(low: float, high: float, n: int = 5) -> list[float]:
    """About `n` round numbers that reach from at most `low` to at least `high`."""
    # Values that are one but for rounding get ticks around them.
    span = high - low if high - low > SMALLEST * max(1.0, abs(high)) else max(1.0, abs(high))
    raw = span / n
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{place * step:.12g}") + 0.0 for place in range(first, max(last, first + 1) + 1)]


def vertical(values: Sequence[float], from_zero: bool = False) -> tuple[Scale, list[float]]:
    """The scale from bottom to top that has room for the values, and its ticks."""
    low, high = min(values), max(values)
    marks = ticks(min(0.0, low) if from_zero else low, high)
    return Scale(marks[0], marks[-1], HEIGHT - BOTTOM, TOP), marks


def horizontal(low: float, high: float) -> Scale:
    """The scale from left to right."""
    return Scale(low, high, LEFT, WIDTH - RIGHT)


def grid(y: Scale, marks: Sequence[float], name: str) -> Markup:
    """Horizontal lines with their values, and the axis' name above them."""
    lines = [
        join(
            element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y(mark), y2=y(mark), class_="grid"),
            element("text", number(mark), x=LEFT - 8, y=y(mark) + 4, class_="tick end"),
        )
        for mark in marks
    ]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    label = element("text", name, x=12, y=middle, transform=f"rotate(-90 12 {middle})", class_="axis middle")
    return join(*lines, label)


def below(x: Sequence[float], labels: Sequence[str], name: str) -> Markup:
    """Labels under the axis at these places, and its name."""
    # Every second or third label where there is no room for all.
    widest = max((len(label) for label in labels), default=1) * 7 + 10
    room = (WIDTH - LEFT - RIGHT) / max(1, len(labels))
    every = max(1, math.ceil(widest / room))
    shown = [
        element("text", label, x=place, y=HEIGHT - BOTTOM + 17, class_="tick middle")
        for order, (place, label) in enumerate(zip(x, labels, strict=True))
        if order % every == 0
    ]
    centre = (LEFT + WIDTH - RIGHT) / 2
    return join(*shown, element("text", name, x=centre, y=HEIGHT - 8, class_="axis middle"))


def chart(*parts: Markup, label: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Markup:
    """The picture; `label` is what is read out in place of it."""
    return element("svg", *parts, viewBox=f"0 0 {size[0]} {size[1]}", role="img", aria_label=label)


def legend(names: Sequence[str], marker: str = "square") -> Markup:
    """Names beside the colour of each series."""
    entries = [
        element("li", element("span", class_=f"{marker} series-{place % SERIES}"), name)
        for place, name in enumerate(names)
    ]
    return element("ul", *entries, class_="legend")


def number(value: float) -> str:
    """A number as people write it: 12,000 or 0.85."""
    if abs(value) >= 1000 and value == int(value):
        return f"{int(value):,}"
    return f"{value:g}"
