"""Plain tables: aligned by what a terminal shows."""

from __future__ import annotations

from serve.commands.table import format_table, width


def test_columns_are_aligned_and_empty_ones_left_out() -> None:
    table = format_table(["n", "id", "title"], [["1", "", "Heat"], ["10", "", "Amélie"]], align="><<")
    assert table == " n  title\n 1  Heat\n10  Amélie"


def test_wide_and_combining_characters_count_as_they_show() -> None:
    assert width("千と千尋") == 8
    assert width("e\u0301") == 1
    table = format_table(["title", "x"], [["千と", "1"], ["abc", "2"]], align="<<")
    assert table.splitlines()[1:] == ["千と   1", "abc    2"]


def test_without_rows_the_headers_stand_alone() -> None:
    assert format_table(["a", "b"], [], align="<<") == "a  b"


def test_control_characters_do_not_reach_the_terminal() -> None:
    table = format_table(["title"], [["a\x1b[31mb\nc\u202e"], ["Amélie 千"]], align="<")
    assert table.splitlines()[1:] == ["a\ufffd[31mb\ufffdc\ufffd", "Amélie 千"]
