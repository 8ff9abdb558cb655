"""What training a part takes of the memory, beside the data."""

from __future__ import annotations

import torch

from recsys.data.interactions import Interactions
from recsys.models import build, config_from_dict, kind_of
from recsys.training.learner import is_sparse
from recsys.training.run_info import PartInfo

# From single runs of `dot-bias` (docs/experiments.md); benchmarks/bench_memory.py compares more.
LIBRARIES = 200_000_000
"""Bytes that torch takes once it computes."""
COPIES = 5.5
"""Copies of the weights: gradient, AdamW's two, what is written to disk, and work in progress."""
SPARSE_COPIES = 4.7
"""As sparse updates make no gradient of whole tables."""
BYTES_A_RATING = 40
"""Of its columns, and of those in the order of an epoch."""


def needed_bytes(part: PartInfo, interactions: Interactions, n_train: int, ranks: int = 1) -> int:
    """Bytes that training or fitting a part on the CPU takes at its peak, about.

    With several `ranks`: in each of the processes that share its tables and ratings.
    """
    kind, n_users, n_items = kind_of(part.kind), interactions.n_users, interactions.n_items
    config = config_from_dict(kind, part.config)
    if kind.memory:
        return LIBRARIES + kind.memory(config, n_users, n_items, n_train)
    with torch.device("meta"):  # no memory: only the sizes of the weights are needed
        model = build(kind, config, n_users, n_items)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
    is_lean = part.training is not None and (ranks > 1 or is_sparse(part, n_users, n_items))
    copies = SPARSE_COPIES if is_lean else COPIES
    return LIBRARIES + (int(copies * weights) + BYTES_A_RATING * n_train) // ranks
