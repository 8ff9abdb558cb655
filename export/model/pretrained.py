"""A trained model, read from a run or a bundle, for another one to start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from recsys.training.pretrained import Pretrained, read_run
from recsys.training.run_info import is_run
from serve.bundle.bundle import open_bundle
from serve.bundle.items import Catalogue
from serve.files.names import MANIFEST_NAME


def read_pretrained(path: Path) -> Pretrained:
    """Read a run folder or a bundle; nothing in it is trusted.

    Raises:
        ConfigError: it is neither.
        CheckpointError, BundleError: it is damaged.
    """
    if is_run(path):
        return read_run(path)
    if not (path / MANIFEST_NAME).is_file():
        raise ConfigError(
            f"{path} is neither a run nor a bundle. `recsys train` and `recsys export` make them."
        )
    return read_bundle(path)


def read_bundle(path: Path) -> Pretrained:
    """What a bundle holds: its scorer has every weight under the model's own name.

    Raises:
        BundleError: it is not a whole bundle that can be trusted.
        ConfigError: its model is of a kind that can't be trained here.
    """
    bundle = open_bundle(path)
    model = bundle.manifest.model
    catalogue = Catalogue(bundle.file("items.parquet"), model.n_items)
    items = pd.DataFrame({"item_id": catalogue.ids.ids(np.arange(1, 1 + model.n_items))})
    if catalogue.has_titles:
        items["title"] = catalogue.titles
    module = build(model.kind, config_from_dict(model.kind, model.config), model.n_users, model.n_items)
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    return Pretrained(
        str(path), model.kind, dict(model.config), items, {name: bundle.table(name) for name in names}
    )
