"""Plain tables for a terminal. Importing rich would take a third of the time to a first answer."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from serve.terminal import printable


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """Columns under their headers, two spaces apart; a column that is empty throughout is left out.

    Args:
        headers: One for each column.
        rows: Cells as text, row by row. Control characters are shown as "�".
        align: "<" or ">" for each column.
    """
    cells = [list(headers), *([printable(cell, keep="") for cell in row] for row in rows)]
    kept = [column for column in range(len(headers)) if any(row[column] for row in cells[1:]) or not rows]
    widths = {column: max(width(row[column]) for row in cells) for column in kept}

    def padded(text: str, column: int) -> str:
        space = " " * (widths[column] - width(text))
        return text + space if align[column] == "<" else space + text

    lines = ["  ".join(padded(row[column], column) for column in kept).rstrip() for row in cells]
    return "\n".join(lines)


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)
