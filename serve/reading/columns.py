"""Which column holds the user, the item, the rating and the time, by the column's name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from serve.errors import InputError
from serve.reading.misread import what_is_odd

USUAL = {
    "user": ("userid", "user"),
    "item": ("itemid", "movieid", "item", "movie"),
    "rating": ("rating", "ratings"),
    "timestamp": ("timestamp",),
}
"""The usual names of each role, in order of preference. Case and separators between words are ignored:
user_id, User-ID and userId are the same name."""

PUBLIC = {
    "user": ("customerid", "reviewerid", "visitorid"),
    "item": ("parentasin", "asin", "businessid", "bookid", "isbn", "articleid", "productid"),
    "rating": ("stars", "overall", "bookrating", "yourrating"),
    "timestamp": ("unixreviewtime",),
}
"""Names in public data sets (docs/data.md), likewise, where no column has a usual one."""

OPTIONS = {role: f"--{role}-column" for role in USUAL}
SHOWN = 20
"""Names of columns that an error lists."""


def find_columns(
    names: Sequence[str],
    roles: Mapping[str, str | None],
    source: str,
    optional: Collection[str] = ("timestamp",),
) -> dict[str, str]:
    """The column of each role: `{"user": "userId", …}`; `optional` roles may be left out.

    `roles` are keys of `USUAL`, each with the name of its column, or None for a usual name. An optional role
    without a name is left out if no column has a usual one.

    Raises InputError: a column is missing, a name fits several columns, or a column has two roles.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for role, named in roles.items():
        matches = [name for name in names if name == named] if named else _usual(names, role)
        if len(matches) > 1:
            shown = " and ".join(map(repr, matches))
            raise InputError(
                f"{source}: several columns for {role}: {shown}. Rename, or choose with {OPTIONS[role]}."
            )
        if matches:
            found[role] = matches[0]
        elif named or role not in optional:
            spelled = [re.sub("id$", "_id", name) for name in USUAL[role]]
            missing.append(f"{role} ({named or ' or '.join(spelled)})")
    if missing:
        options = ", ".join(OPTIONS[role] for role in roles)
        advice = (
            what_is_odd(names)
            or f"Name them with {options}, or all columns of a file without a heading with --heading."
        )
        shown = ", ".join(filter(str.strip, names[:SHOWN])) + (", …" if len(names) > SHOWN else "")
        raise InputError(f"{source}: no column for {', '.join(missing)}. It has: {shown}. {advice}")
    if len(set(found.values())) < len(found):
        raise InputError(f"{source}: one column for two roles: {found}. Name a column for each.")
    return found


def is_heading(cells: Sequence[str]) -> bool:
    """Whether cells name a column of users and one of items, as those of a heading do, and no row of data."""
    return bool(_usual(cells, "user") and _usual(cells, "item"))


def _usual(names: Sequence[str], role: str) -> list[str]:
    for wanted in USUAL[role] + PUBLIC[role]:
        if matches := [name for name in names if re.sub(r"[\s_.-]", "", name).lower() == wanted]:
            return matches
    return []
