"""`load`: a known name or a path -> `Interactions`."""

from __future__ import annotations

import difflib
import glob
import hashlib
import logging
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import get_args

import pandas as pd

from recsys.data import archive, movielens, recbole
from recsys.data.assembly import ItemKey, assemble
from recsys.data.catalog import KNOWN, DataSet
from recsys.data.columns import Columns
from recsys.data.download import fetch, named_by_hash
from recsys.data.duplicates import POLICIES
from recsys.data.interactions import Interactions
from recsys.data.ratings_table import RatingsTable, read_ratings
from recsys.data.refusals import as_data_errors
from recsys.errors import ConfigError, DataError
from serve.files.checksum import sha256_of
from serve.reading.files import find_files, open_source

log = logging.getLogger(__name__)

Read = tuple[RatingsTable, pd.DataFrame | None, list[Traversable]]


def load(
    source: str,
    *,
    from_file: Path | None = None,
    columns: Columns | None = None,
    item_key: str = "id",
    duplicates: str = "error",
    delimiter: str | None = None,
) -> Interactions:
    """Read ratings.

    Args:
        source: A name of `catalog.KNOWN`; or a path: a CSV, TSV, Parquet or RecBole .inter file, a folder
            or glob of such files, or a folder or zip in MovieLens' or RecBole's layout.
        from_file: The zip or unpacked folder of a data set known by name, instead of a download. One
            that is not the published file is read too, and a warning is logged.
        columns: What the columns are called; None for the usual names.
        item_key: "id", or "title": items with the same title become one, as the course notes have it.
            Where a user has rated several of them, the latest rating counts, or their mean with
            `duplicates="mean"`.
        duplicates: What becomes of several ratings of one item by one user: "error", "last" (by time,
            then by place in the file) or "mean".
        delimiter: The character between the cells of a CSV or TSV file, where it is no comma or tab.

    Raises:
        DataError: the data is not what it should be.
        DownloadError: it could not be fetched.
        ConfigError: arguments that don't exist or don't go together.
    """
    if duplicates not in POLICIES:
        raise ConfigError(f"duplicates={duplicates!r}: one of {', '.join(POLICIES)}.")
    if item_key not in get_args(ItemKey):
        raise ConfigError(f"item_key={item_key!r}: one of {', '.join(get_args(ItemKey))}.")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise ConfigError(f"delimiter={delimiter!r}: one character, and neither a quote nor a line's end.")
    columns = columns or Columns()
    known = KNOWN.get(source)
    if known is None and from_file is not None:
        raise ConfigError(
            f"from_file ({from_file}) goes with a data set known by name ({', '.join(KNOWN)}), not with "
            f"{source!r}. Files of your own are named by their path."
        )
    path = from_file or (fetch(known) if known else Path(source))
    if not path.exists() and not glob.has_magic(source):
        raise DataError(_unknown(source) if known is None else f"{path} does not exist.")
    with as_data_errors(), archive.opened(path) as root:
        if from_file and not root.is_dir():
            raise DataError(f"{path} is neither a zip nor a folder, one of which {source} comes as.")
        table, catalogue, files = _read(root, path, columns, delimiter)
        sha256 = _sha256(path, files)
        if known:
            _check_is(known, path, sha256, files[0], len(table.ratings))
        else:
            known = named_by_hash(sha256)
        name = known.name if known else path.resolve().name.removesuffix(path.suffix)
        licence = known.licence if known else "unknown"
        return assemble(table, catalogue, name, sha256, licence, item_key=item_key, duplicates=duplicates)


def _read(root: Traversable, path: Path, columns: Columns, delimiter: str | None) -> Read:
    if root.is_dir():
        movies, inter = movielens.find_ratings(root), recbole.find_ratings(root)
        if delimiter and (movies or inter):
            raise ConfigError(f"delimiter={delimiter!r}: {path} has a layout of its own. Name its file.")
        if movies:
            return movielens.read(root, *movies, columns)
        if inter:
            return recbole.read(root, inter, columns)
        if root is not path:  # a zip
            raise DataError(
                f"{path} has neither MovieLens' ratings ({', '.join(movielens.RATINGS_FILES)}) nor a RecBole "
                f".inter file. Unpack it, and name the file of ratings itself."
            )
    paths = [file for _, file in find_files(str(path))]
    sources = (open_source(file, delimiter) for file in paths)
    return read_ratings(sources, columns, str(path)), None, list(paths)


def _sha256(path: Path, files: list[Traversable]) -> str:
    if path.is_file():
        return sha256_of(path)
    read = sorted((file for file in files if isinstance(file, Path)), key=lambda file: file.name)
    return hashlib.sha256("".join(map(sha256_of, read)).encode()).hexdigest()


def _check_is(known: DataSet, path: Path, sha256: str, ratings: Traversable, n_ratings: int) -> None:
    """Refuse what is clearly another data set; say so where it can't be told, or is not the same."""
    if sha256 == known.sha256:
        return
    other = named_by_hash(sha256)
    if other:
        raise DataError(f"{path} is {other.name}, not {known.name}.")
    if ratings.name not in movielens.RATINGS_FILES.get(known.ratings_file, ()):
        raise DataError(
            f"{path} is not {known.name}: its ratings are in {ratings.name}, those of {known.name} in "
            f"{known.ratings_file}. To read it as data of your own, name its path in place of {known.name!r}."
        )
    if path.is_file():
        log.warning(
            "%s is not the published %s.zip; it is read because you named it. "
            "Its SHA-256, which is recorded: %s; published: %s",
            path,
            known.name,
            sha256,
            known.sha256,
        )
    if n_ratings != known.n_ratings:
        log.warning(
            "%s has %s ratings; %s has %s", path, f"{n_ratings:,}", known.name, f"{known.n_ratings:,}"
        )


def _unknown(source: str) -> str:
    near = difflib.get_close_matches(source, KNOWN, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{source!r} is neither a known data set ({', '.join(KNOWN)}) nor a file or folder.{hint}"
