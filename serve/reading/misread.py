"""What a text file seems to be where its first line is no heading, and the option that reads it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from serve.errors import InputError

TAB = "\t"
MATRIX = 50
"""More columns than this are one for each item."""
_BLOCK = re.compile(r"[0-9]+:\s*")


def check_delimiter(first: str, delimiter: str, name: str) -> None:
    """Check that the first line of a file has the delimiter, or nothing that looks like another one.

    Raises InputError: it has another one, which the message names with the option.
    """
    if re.fullmatch(r"sep=.?", first.strip(' "\ufeff\r')):
        raise InputError(
            f"{name} begins with {first.strip()!r}, a line for Excel: sed 1d OLD > NEW, and read NEW."
        )
    if delimiter in first:
        return
    if _BLOCK.fullmatch(first):
        raise InputError(
            f"{name} has blocks that begin with {first.strip()!r}, as Netflix' files: name it .txt"
        )
    if "::" in first:
        raise InputError(
            f"{name}: its first line {first[:80]!r} has '::' between cells, as MovieLens 1M: name the "
            f"folder or zip of ratings.dat. Else convert it: sed 's/::/,/g' OLD > NEW.csv"
        )
    if others := [mark for mark in ";\t,|" if mark in first]:
        other = "tab" if others[0] == TAB else repr(others[0])
        raise InputError(
            f"{name}: its first line {first.rstrip()[:80]!r} has no {delimiter!r} between cells, but "
            f"{others[0]!r}. If that separates the cells: --delimiter {other} (files of features or "
            f"titles: write {delimiter!r})"
        )


def what_is_odd(names: Sequence[str]) -> str | None:
    """What to do where the names of columns, read from a first line, are none; None: they may be names."""
    if len(names) == 1 and len(cells := names[0].split()) > 1:
        return f"If spaces separate its {len(cells)} cells: --delimiter ' '"
    if not any(re.fullmatch(r"[+-]?[0-9.]+", name) for name in names):
        return None
    if len(names) > MATRIX:
        return (
            f"Its first line looks like data, {len(names)} cells: if it is a matrix with a row for each "
            f"user, as Jester's, write a row for each rating: pandas.read_csv(OLD, header=None).stack(), and "
            f"see docs/data.md"
        )
    example = ",".join(["user_id", "item_id", "rating", "timestamp"][: len(names)])
    return f"Its first line looks like data: name its columns, such as --heading {example}"
