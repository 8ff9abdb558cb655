"""Which column is the user, the item, the rating, the time: by name, in any usual spelling."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from serve.errors import InputError

USUAL = {
    "user": ("userid", "user"),
    "item": ("itemid", "movieid", "item", "movie"),
    "rating": ("rating", "ratings"),
    "timestamp": ("timestamp",),
}
"""Names that are looked for, in this order; case and what stands between words (user_id, User-ID, userId)
make no difference."""

OPTIONS = {role: f"--{role}-column" for role in USUAL}


def find_columns(
    names: Sequence[str],
    roles: Mapping[str, str | None],
    source: str,
    optional: Sequence[str] = ("timestamp",),
) -> dict[str, str]:
    """The column of each role: `{"user": "userId", …}`; an optional one that is not there is left out.

    Args:
        names: Names of all columns, in order.
        roles: Of `USUAL`, with the column's name where the caller gives one; None: a usual name.
        source: What errors call the file.
        optional: Roles that need no column, unless its name is given.

    Raises:
        InputError: a column is missing (the message names those that are there), one name stands for two
            columns, or one column for two roles.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for role, named in roles.items():
        there = [name for name in names if name == named] if named else _usual(names, role)
        if len(there) > 1:
            shown = " and ".join(map(repr, dict.fromkeys(there)))
            raise InputError(
                f"{source}: {len(there)} columns are called {shown}; name one with {OPTIONS[role]}."
                if len(set(there)) > 1
                else f"{source}: {len(there)} columns are called {shown}; one is needed."
            )
        if there:
            found[role] = there[0]
        elif named or role not in optional:
            missing.append(f"{role} ({named or ' or '.join(_spelled(role))})")
    if missing:
        raise InputError(
            f"{source}: no column for {', '.join(missing)}. It has: {', '.join(filter(str.strip, names))}. "
            + (
                "Its first line looks like data: put a line with the names of the columns before it."
                if _is_data(names)
                else f"Name them with {', '.join(OPTIONS[role] for role in roles)}."
            )
        )
    if len(set(found.values())) < len(found):
        raise InputError(f"{source}: one column for two purposes: {found}. Name a column for each.")
    return found


def _usual(names: Sequence[str], role: str) -> list[str]:
    for wanted in USUAL[role]:
        if there := [name for name in names if re.sub(r"[\s_.-]", "", name).lower() == wanted]:
            return there
    return []


def _spelled(role: str) -> list[str]:
    return [re.sub("id$", "_id", name) for name in USUAL[role]]


def _is_data(names: Sequence[str]) -> bool:
    return any(re.fullmatch(r"[+-]?[0-9.]+", name) for name in names)
