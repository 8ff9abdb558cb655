"""Ids -> indices."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def encode(values: pa.ChunkedArray, more: pa.Array | None = None) -> tuple[pa.Array, np.ndarray]:
    """Give every id its index: its rank, from 1, among all distinct ids in sorted order.

    Integers sort by value, strings by code point. The order of the values makes no difference.

    Args:
        values: int64 or string [n], without nulls.
        more: Further ids that get an index. If one of the two holds strings, all ids become strings.

    Returns:
        The distinct ids, int64 or string, ascending; and the index of each value, int32 [n].
    """
    if more is not None and more.type != values.type:
        values, more = values.cast(pa.string()), more.cast(pa.string())
    encoded = values.dictionary_encode().unify_dictionaries()
    distinct = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], values.type)
    ids = distinct if more is None else pc.unique(pa.concat_arrays([distinct, more]))
    ids = ids.take(pc.array_sort_indices(ids))
    rank = pc.index_in(distinct, value_set=ids).to_numpy() + np.int32(1)
    index = np.empty(len(values), np.int32)
    start = 0
    for chunk in encoded.chunks:  # joined, they would take another 4 bytes per rating
        np.take(rank, chunk.indices.to_numpy(), out=index[start : start + len(chunk)])
        start += len(chunk)
    return ids, index
