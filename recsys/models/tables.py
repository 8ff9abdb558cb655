"""Embedding tables: their initial values, and the values of rows that no rating has trained.

Row 0 of every table is "unknown". A table is a plain parameter, read by `torch.nn.functional.embedding`, so
that an exported graph holds one initializer of the parameter's own name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INIT_STD = 0.01
"""Standard deviation of new rows, as in fastai: small, so that the first scores are near the middle of the
range."""

USER_TABLES = ("user_factors", "user_biases")
ITEM_TABLES = ("item_factors", "item_biases")


def normal_table(n_rows: int, n_columns: int) -> nn.Parameter:
    """A new table float32 [1 + n_rows, n_columns] of small normal values; row 0 is extra."""
    return nn.Parameter(torch.empty(1 + n_rows, n_columns).normal_(std=INIT_STD))


def truncated_normal_table(n_rows: int, n_columns: int) -> nn.Parameter:
    """As `normal_table`, with no value beyond two standard deviations, as fastai's embeddings start."""
    table = torch.empty(1 + n_rows, n_columns)
    return nn.Parameter(nn.init.trunc_normal_(table, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD))


def with_average_row(rows: Tensor) -> nn.Parameter:
    """Put the average row in front, as row 0: [n, F] -> float32 [1 + n, F]."""
    rows = rows.detach().to(torch.float64)
    return nn.Parameter(torch.cat([rows.mean(dim=0, keepdim=True), rows]).to(torch.float32))


@torch.no_grad()
def average_untrained_rows(model: nn.Module, trained_users: Tensor, trained_items: Tensor) -> None:
    """Overwrite, in place, row 0 and every other untrained row of each table by the average trained row.

    Such rows never reach the loss, so this changes nothing that training computes, however often it is done.

    Args:
        model: its tables are found by their names.
        trained_users: bool [1 + n_users], True where a training rating touches the row.
        trained_items: bool [1 + n_items], likewise.
    """
    for names, trained in ((USER_TABLES, trained_users), (ITEM_TABLES, trained_items)):
        for name in names:
            table = getattr(model, name, None)
            if table is not None:
                # float64, so that the average of a million rows is still exact to a float32.
                table[~trained] = table[trained].mean(dim=0, dtype=torch.float64).to(table.dtype)
