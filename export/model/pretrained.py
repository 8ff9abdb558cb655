"""Reads the model that `recsys train --init-from` starts from, out of a run or a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from recsys.errors import ConfigError
from recsys.models import build, config_from_dict
from recsys.training.pretrained import Pretrained, read_run
from recsys.training.run_info import is_run
from serve.bundle.bundle import open_bundle
from serve.bundle.items import Catalogue
from serve.files.names import MANIFEST_NAME


def read_pretrained(path: Path) -> Pretrained:
    """Read a run folder or a bundle; its contents are checked.

    Raises:
        ConfigError: `path` is neither.
        CheckpointError, BundleError: the run or the bundle is damaged.
    """
    if is_run(path):
        return read_run(path)
    if not (path / MANIFEST_NAME).is_file():
        raise ConfigError(
            f"{path} is neither a run nor a bundle. `recsys train` and `recsys export` make them."
        )
    return read_bundle(path)


def read_bundle(path: Path) -> Pretrained:
    """Read a bundle: score.onnx has every weight under the model's own name.

    Raises:
        BundleError: a file is missing or fails its check.
        ConfigError: the model is of a kind that this release does not train.
    """
    bundle = open_bundle(path)
    model = bundle.manifest.model
    catalogue = Catalogue(bundle.file("items.parquet"), model.n_items)
    items = pd.DataFrame({"item_id": catalogue.ids.ids(np.arange(1, 1 + model.n_items))})
    if catalogue.has_titles:
        items["title"] = catalogue.titles
    config = config_from_dict(model.kind, model.config)
    with torch.device("meta"):  # no memory: only the names of the weights are needed
        module = build(model.kind, config, model.n_users, model.n_items)
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    if bundle.manifest.parity.compression is not None and "layers.0.weight" in names:
        raise ConfigError(
            f"{path} has packed tables, and not the weights of its {model.kind}: start from its run, or from "
            f"a bundle of --precision fp32"
        )
    return Pretrained(
        str(path), model.kind, dict(model.config), items, {name: bundle.table(name) for name in names}
    )
