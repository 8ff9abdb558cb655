from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from recsys.data.assembly import encode

integers = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1)
# Any text that UTF-8 can hold.
strings = st.lists(st.text(st.characters(exclude_categories=("Cs",))), min_size=1)


@given(st.one_of(integers, strings), st.data())
def test_an_index_is_the_rank_among_the_sorted_ids(ids: list[int] | list[str], data: st.DataObject) -> None:
    """Against the obvious way, and the same in several chunks of whatever size."""
    cut = data.draw(st.integers(0, len(ids)))
    kind = pa.int64() if isinstance(ids[0], int) else pa.string()
    more = data.draw(st.lists(st.sampled_from(ids)))  # type: ignore[type-var]
    extra: list[int] | list[str] = more + ([2**62] if isinstance(ids[0], int) else ["\x00"])  # type: ignore[assignment]
    chunks = pa.chunked_array([pa.array(ids[:cut], kind), pa.array(ids[cut:], kind)])

    distinct, index = encode(chunks, pa.array(extra, kind))

    expected = sorted({*ids, *extra})  # type: ignore[type-var]
    assert distinct.to_pylist() == expected
    assert index.dtype == np.int32
    assert [expected[i - 1] for i in index] == ids


def test_where_one_side_has_strings_all_ids_are_strings() -> None:
    distinct, index = encode(pa.chunked_array([[10, 9]]), pa.array(["x"]))
    assert distinct.to_pylist() == ["10", "9", "x"]
    assert index.tolist() == [1, 2]
