"""Well-known items of every kind, for someone to rate first."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np


def varied(
    counts: np.ndarray, genres: Mapping[str, np.ndarray], n: int, without: Collection[int] = ()
) -> list[int]:
    """Item indices: of each genre in turn the most rated one that is left, the most rated genre first.

    Args:
        counts: int64 [n_items + 1], ratings of each item.
        genres: The items of each genre; without any, the most rated items of all.
        n: How many, if there are so many.
        without: Items to leave out.
    """
    order = 1 + np.argsort(-counts[1:], kind="stable")
    order = order[~np.isin(order, list(without))]
    lists = [order[np.isin(order, members)] for members in genres.values()] or [order]
    lists.sort(key=lambda members: -int(counts[members].sum()))
    found: dict[int, None] = {}
    places = [0] * len(lists)
    while len(found) < n:
        before = len(found)
        for which, members in enumerate(lists):
            while places[which] < len(members) and int(members[places[which]]) in found:
                places[which] += 1
            if places[which] < len(members):
                found[int(members[places[which]])] = None
        if len(found) == before:
            break
    return list(found)[:n]
