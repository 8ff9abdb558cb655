"""What is odd about a data set: values that no model should learn from without a look, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from recsys.data.interactions import Interactions
from recsys.data.odd_ids import odd_ids

# Values that often stand for "not rated".
LOW_SENTINELS, HIGH_SENTINELS = (-1, 0, -9, -99, -999), (9, 99, 999, 9999)
# A sentinel that is one step from the others is reported where it makes this share of the ratings.
SENTINEL_SHARE = 0.3
# Left out at both ends where the width is measured; in small data, one rating.
EDGE_SHARE = 0.01
# An outlier lies this many times the width of the middle 98 % outside of them, or of their size.
OUTLIER_WIDTHS = 3
# Counts of plays or purchases: more different values than a scale has, some many times the median.
COUNT_VALUES, COUNT_RATIO = 20, 10
# Share of the ratings of one user or item, and how many times the median; in data of this many at least.
DOMINANT_SHARE, DOMINANT_RATIO, DOMINANT_AMONG = 0.2, 10, 10
# Whole numbers up to this one are exact in float32.
EXACT = 1 << 24
YEAR = 365 * 86_400
YEAR_2100 = 4_102_444_800


def oddities(interactions: Interactions) -> list[str]:
    """One sentence, or two, for each oddity; none for a data set that is as expected."""
    found = [] if interactions.implicit else [*_of_ratings(interactions.ratings)]
    found += [*odd_ids("user", interactions.users["user_id"])]
    if interactions.item_key == "id":
        found += [*odd_ids("item", interactions.items["item_id"])]
    found += _dominant("user", interactions.users["user_id"], interactions.user_index)
    found += _dominant("item", interactions.items["item_id"], interactions.item_index)
    return [*found, *_of_times(interactions.timestamps)]


def _of_ratings(ratings: np.ndarray) -> Iterator[str]:
    table = pd.Series(ratings).value_counts(sort=False).sort_index()
    values, counts = table.index.to_numpy(np.float64), table.to_numpy()
    if len(values) == 1:
        yield f"All ratings are {values[0]:g}: they say only who rated what. Read them with --implicit."
        return
    for place, others in ((0, slice(1, None)), (-1, slice(None, -1))):
        if len(values) > 2 and _is_sentinel(values[place], values[others], counts[place] / counts.sum()):
            low, high = values[others][[0, -1]]
            yield (
                f"{counts[place]:,} of {len(ratings):,} ratings are {values[place]:g}, the others {low:g} to "
                f"{high:g}. If it stands for 'not rated', drop these rows, or read all as likes: --implicit."
            )
            values, counts = values[others], counts[others]
    below = np.cumsum(counts) / counts.sum()
    edge = min(max(EDGE_SHARE, 1.5 / counts.sum()), 0.5)
    first, middle, last = (values[np.searchsorted(below, share)] for share in (edge, 0.5, 1 - edge))
    if np.abs(values).max() > EXACT:
        yield (
            f"Ratings beyond {EXACT:,} are rounded to seven digits, as float32 stores them; the largest is "
            f"{np.abs(values).max():.0f}."
        )
    is_count = values[0] >= 0 and not (values % 1).any() and len(values) > COUNT_VALUES
    if is_count and last > COUNT_RATIO * max(middle, 1):
        yield (
            f"The ratings look like counts, such as plays: half are up to {middle:g}, the largest is "
            f"{values[-1]:g}. Read them as likes with --implicit, or take their logarithm."
        )
        return
    margin = OUTLIER_WIDTHS * max(last - first, abs(middle))
    far = (values < first - margin) | (values > last + margin)
    if far.any():
        shown = ", ".join(f"{value:g}" for value in values[far][:3]) + (", …" if far.sum() > 3 else "")
        yield (
            f"{counts[far].sum():,} of {len(ratings):,} ratings lie far from the others, which are "
            f"{values[~far][0]:g} to {values[~far][-1]:g}: {shown}. Correct or drop them: errors are "
            f"squared, so that they outweigh all others."
        )


def _is_sentinel(value: float, others: np.ndarray, share: float) -> bool:
    """Whether one end of the scale, apart from the `others` (ascending), may stand for "not rated"."""
    step = np.diff(others).min()
    if value in LOW_SENTINELS and value < others[0] and others[0] > 0:
        return others[0] - value > 1.5 * step or share > SENTINEL_SHARE
    return value in HIGH_SENTINELS and value - others[-1] > OUTLIER_WIDTHS * (others[-1] - others[0])


def _dominant(what: str, ids: pd.Series, index: np.ndarray) -> Iterator[str]:
    counts = np.bincount(index, minlength=1 + len(ids))[1:]
    rated = counts[counts > 0]
    most = int(counts.argmax())
    share = counts[most] / len(index)
    dominates = share > DOMINANT_SHARE and counts[most] > DOMINANT_RATIO * np.median(rated)
    if dominates and len(rated) >= DOMINANT_AMONG:
        yield (
            f"{what.capitalize()} {ids.iloc[most]} has {share:.0%} of the ratings, {counts[most]:,} of "
            f"{len(index):,}. If it is a test account or stands for 'unknown', drop its rows."
        )


def _of_times(times: np.ndarray | None) -> Iterator[str]:
    if times is None:
        return
    first, last = int(times.min()), int(times.max())
    without = "Name another --timestamp-column, or '' for none."
    if 19_000_101 <= first <= last <= 21_001_231 and _are_dates(times):
        written = f"{first // 10_000}-{first // 100 % 100:02d}-{first % 100:02d}"
        yield (
            f"The times look like dates written as {first}, and are read as seconds since 1970. Write them "
            f"as {written}."
        )
    elif 190_001_010 <= first <= last <= 210_012_312 and _are_dates(times // 10):
        # Twelve digits are read as milliseconds.
        yield (
            "The times look like dates written as 202103011230, and are read as milliseconds since 1970. "
            "Write them as 2021-03-01 12:30."
        )
    elif 0 <= first <= last < YEAR:
        yield f"All times lie in 1970: {first} to {last} seconds since its begin. {without}"
    elif 0 <= first < YEAR and last < YEAR_2100:
        n = int((times < YEAR).sum())
        yield (
            f"{n:,} of {len(times):,} times lie in 1970, the first at {first} seconds since its begin: if "
            f"they stand for 'unknown', drop these rows. Else: {without}"
        )
    elif last >= YEAR_2100 or first < 0:
        wrong = last if last >= YEAR_2100 else first
        yield (
            f"Times reach the year {datetime.fromtimestamp(wrong, UTC).year}: they are read as seconds or "
            f"milliseconds since 1970. {without}"
        )
    elif first == last and len(times) > 1:
        when = datetime.fromtimestamp(first, UTC)
        yield f"All times are equal, {when:%Y-%m-%d %H:%M:%S}: they give no order."


def _are_dates(times: np.ndarray) -> bool:
    month, day = times // 100 % 100, times % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())
