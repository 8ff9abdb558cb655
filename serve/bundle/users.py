"""The users of a bundle."""

from __future__ import annotations

from serve.bundle.bundle import Bundle
from serve.bundle.ids import IdIndex


def read_users(bundle: Bundle) -> IdIndex:
    """The user ids, without those who were forgotten. Raises BundleError: as `IdIndex.read`."""
    n_users, n_forgotten = bundle.manifest.model.n_users, bundle.manifest.n_forgotten
    return IdIndex.read(bundle.file("users.parquet"), "user_id", n_users, n_forgotten)
