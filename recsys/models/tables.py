"""Embedding tables: initial values, and the values of rows without a training rating.

Row 0 of every table is "unknown". A table is a plain parameter, so that an exported graph has an initializer
of the parameter's name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

INIT_STD = 0.01
"""Standard deviation of new rows, as in fastai: the first scores are near the middle of the range."""

USER_TABLES = ("user_factors", "user_biases")
ITEM_TABLES = ("item_factors", "item_biases")


def normal_table(n_rows: int, n_columns: int) -> nn.Parameter:
    """A new table float32 [1 + n_rows, n_columns] of small normal values."""
    table = torch.empty(1 + n_rows, n_columns)
    # There are no values to draw on "meta", and torch would import its compiler for them: a second.
    return nn.Parameter(table if table.is_meta else table.normal_(std=INIT_STD))


def truncated_normal_table(n_rows: int, n_columns: int) -> nn.Parameter:
    """As `normal_table`, truncated at two standard deviations, as in fastai."""
    table = torch.empty(1 + n_rows, n_columns)
    if not table.is_meta:
        nn.init.trunc_normal_(table, std=INIT_STD, a=-2 * INIT_STD, b=2 * INIT_STD)
    return nn.Parameter(table)


def with_average_row(rows: Tensor) -> nn.Parameter:
    """Put the average row in front, as row 0: [n, F] -> float32 [1 + n, F]."""
    rows = rows.detach().to(torch.float64)
    return nn.Parameter(torch.cat([rows.mean(dim=0, keepdim=True), rows]).to(torch.float32))


@torch.no_grad()
def average_untrained_rows(
    model: nn.Module, trained_users: Tensor, trained_items: Tensor, *, row_0_only: bool = False
) -> None:
    """Overwrite, in place, row 0 and every other untrained row of each table by the average trained row.

    Such rows never reach the loss, so this does not affect training.

    Args:
        model: its tables are found by their names.
        trained_users: bool [1 + n_users]: whether the user has a training rating.
        trained_items: bool [1 + n_items], likewise.
        row_0_only: keep the other untrained rows.
    """
    for names, trained in ((USER_TABLES, trained_users), (ITEM_TABLES, trained_items)):
        for name in names:
            if (table := getattr(model, name, None)) is not None:
                # In float64, which is exact enough for the average of a million rows.
                rows = slice(1) if row_0_only else ~trained
                table[rows] = table[trained].mean(dim=0, dtype=torch.float64).to(table.dtype)
