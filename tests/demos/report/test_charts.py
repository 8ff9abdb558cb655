"""Ticks, scales and markup by themselves."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demos.report.axes import Scale, number, ticks
from demos.report.charts import Line, Point, bars, lines, points
from demos.report.markup import Markup, element
from demos.report.sections import size


@given(st.floats(-1e12, 1e12), st.floats(0, 1e12))
def test_ticks_are_evenly_spaced_and_reach_around_the_values(low: float, span: float) -> None:
    high = low + span
    marks = ticks(low, high)
    room = 1e-6 * (marks[-1] - marks[0])  # far less than a pixel
    assert marks[0] <= low + room
    assert marks[-1] >= high - room
    assert 2 <= len(marks) <= 9
    steps = [after - before for before, after in pairwise(marks)]
    assert all(step == pytest.approx(steps[0], rel=1e-3) for step in steps)


def test_ticks_are_round() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.43, 1.17) == [0.4, 0.6, 0.8, 1.0, 1.2]
    assert ticks(3, 3)[0] == 3


def test_a_scale_maps_its_ends() -> None:
    scale = Scale(2.0, 4.0, 100.0, 0.0)
    assert (scale(2.0), scale(4.0), scale(3.0)) == (100.0, 0.0, 50.0)
    assert Scale(1.0, 1.0, 5.0, 9.0)(1.0) == 5.0


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.found = "", []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(), st.text())
def test_text_never_becomes_markup(text: str, attribute: str) -> None:
    made = element("p", text, title=attribute)
    reader = Reader()
    reader.feed(made)
    reader.close()
    assert [tag for tag, _ in reader.found] == ["p"]
    if text.isprintable() and attribute.isprintable():
        assert reader.text == text
        assert reader.found[0][1] == [("title", attribute)]


def test_markup_is_kept_and_none_left_out() -> None:
    assert element("b", Markup("<i>x</i>"), None, 3, class_="a", title=None) == '<b class="a"><i>x</i>3</b>'
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_charts_of_little_data() -> None:
    assert "<svg" in lines([1], [Line("a", [0.5]), Line("b", [None])], "x", "y", "one epoch")
    assert "<svg" in bars(["1"], [("a", [0])], "x", "y", "nothing")
    one = points([Point(0.0, 0.0, 0, "t", "label")], ["items"], "one point")
    assert one.count("<circle") == 1
    assert ">label</text>" in one


def test_labels_of_a_map_never_overlap() -> None:
    crowd = [Point(0.001 * i, 0.001 * i, 0, str(i), "a long label") for i in range(50)]
    crowd += [Point(5.0, 5.0, 0, "far", "far away")]
    drawn = points(crowd, ["items"], "crowd")
    assert drawn.count(">a long label</text>") == 1
    assert drawn.count(">far away</text>") == 1


def test_numbers_as_people_write_them() -> None:
    assert [number(value) for value in (12000.0, 0.85, 5.0, 1234.5)] == ["12,000", "0.85", "5", "1234.5"]
    assert [size(n) for n in (0, 999, 1000, 9_379_322, 5 * 10**15)] == [
        "0 bytes",
        "999 bytes",
        "1.0 kB",
        "9.4 MB",
        "5000.0 TB",
    ]
