from __future__ import annotations

from collections import defaultdict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.duplicates import group_pairs

rows = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(1, 10)),
    min_size=1,
    max_size=40,
)


@given(rows, st.booleans())
def test_against_a_dictionary(rows: list[tuple[int, int, int, int]], timed: bool) -> None:
    users, items, times, ratings = np.array(rows).T
    pairs = group_pairs(users.astype(np.int32), items.astype(np.int32), times if timed else None)

    positions = defaultdict(list)
    for position, (user, item, _, _) in enumerate(rows):
        positions[user, item].append(position)
    if len(positions) == len(rows):
        assert pairs is None
        return
    assert pairs is not None
    last = [max(group, key=lambda p: (times[p] if timed else 0, p)) for group in positions.values()]
    assert pairs.last.tolist() == sorted(last)
    means = {p: np.mean(ratings[group]) for p, group in zip(last, positions.values(), strict=True)}
    np.testing.assert_allclose(pairs.mean_ratings(ratings), [means[p] for p in sorted(last)], rtol=1e-6)
