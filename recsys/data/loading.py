"""`load`: a known name or a path -> `Interactions`."""

from __future__ import annotations

import difflib
import glob
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.resources.abc import Traversable
from pathlib import Path

import pyarrow as pa

from recsys.data import DUPLICATES, ITEM_KEYS, archive, layouts
from recsys.data.assembly import assemble
from recsys.data.catalog import KNOWN, DataSet
from recsys.data.download import fetch
from recsys.data.feature_files import FeatureTable, Whose, read_features
from recsys.data.interactions import Interactions
from recsys.data.ratings_table import Columns, read_ratings
from recsys.data.refusals import as_data_errors
from recsys.errors import ConfigError, DataError
from serve.errors import InputError
from serve.files.checksum import sha256_of
from serve.reading.columns import find_columns
from serve.reading.compressed import inner_name
from serve.reading.files import find_files, open_source
from serve.reading.partitions import partitions

log = logging.getLogger(__name__)


def load(
    source: str,
    *,
    from_file: Path | None = None,
    columns: Columns | None = None,
    item_key: str = "id",
    duplicates: str = "error",
    delimiter: str | None = None,
    heading: str | None = None,
    user_features: Path | None = None,
    item_features: Path | None = None,
    id_types: Mapping[str, pa.DataType] | None = None,
) -> Interactions:
    """Read ratings.

    Args:
        source: A name of `catalog.KNOWN`; or a path: a file of the kinds in `serve.reading.files`, a folder
            or glob of such files, or a folder or zip in MovieLens' or RecBole's layout.
        from_file: The zip or unpacked folder of a data set known by name, instead of a download. A warning is
            logged if it is not the published one.
        columns: Names of the columns; None: the usual names. Without a column of ratings, all are 1.
        item_key: "id", or "title": items with the same title become one. If a user has rated several of them,
            the latest rating counts, or their mean with `duplicates="mean"`.
        duplicates: Policy for several ratings of one item by one user: "error", "last" (by time, then by
            position in the file) or "mean". Without ratings, they count once.
        delimiter: Separates the cells of text; None: a comma, in .tsv files a tab.
        heading: Names of the columns of text without a heading, separated by commas; None: the first line
            names them.
        user_features: A file with a row of features for each user; see
            `feature_files.read_features`.
        item_features: Likewise for each item.
        id_types: Types of the "user" and "item" ids, pa.int64() or pa.string(), in the bundle that the
            ratings are for; a type that is not given is that of all ids in the data.

    Raises:
        DataError: no such file, damaged data, refused rows, or duplicates under the policy "error".
        DownloadError: the data set can't be downloaded.
        ConfigError: an unknown value of an argument, or arguments that contradict each other.
    """
    if duplicates not in DUPLICATES:
        raise ConfigError(f"duplicates={duplicates!r}: one of {', '.join(DUPLICATES)}.")
    if item_key not in ITEM_KEYS:
        raise ConfigError(f"item_key={item_key!r}: one of {', '.join(ITEM_KEYS)}.")
    columns = columns or Columns()
    known = KNOWN.get(source)
    if known is None and from_file is not None:
        raise ConfigError(
            f"from_file ({from_file}) goes with a data set known by name ({', '.join(KNOWN)}), not with "
            f"{source!r}. Give your own files by their path."
        )
    path = from_file or (fetch(known) if known else Path(source))
    if not path.exists() and not glob.has_magic(source):
        near = difflib.get_close_matches(source, KNOWN, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise DataError(
            f"{path} does not exist."
            if known
            else f"{source!r} is neither a known data set ({', '.join(KNOWN)}) nor a file or folder.{hint}"
        )
    with as_data_errors(), archive.opened(path) as root:
        if from_file and not root.is_dir():
            raise DataError(f"{path} is neither a zip nor a folder of {source}.")
        table, catalogue, known_users, files = _read(root, path, columns, delimiter, heading, id_types)
        features: dict[Whose, FeatureTable] = {}
        if user_features:
            features["users"] = read_features(user_features, "users", columns.user)
        if item_features:
            features["items"] = read_features(item_features, "items", columns.item)
        sha256 = _sha256(path, files)
        published = next((other for other in KNOWN.values() if other.sha256 == sha256), None)
        if known:
            _check_is(known, published, path, sha256, files[0], len(table.ratings))
        described = known or published
        name = described.name if described else Path(inner_name(path.resolve().name)).stem
        licence = described.licence if described else "unknown"
        return assemble(
            table,
            catalogue,
            known_users,
            name,
            sha256,
            licence,
            item_key=item_key,
            duplicates=duplicates,
            features=features,
        )


def _read(
    root: Traversable,
    path: Path,
    columns: Columns,
    delimiter: str | None,
    heading: str | None,
    id_types: Mapping[str, pa.DataType] | None,
) -> layouts.DataFiles:
    if root.is_dir():
        if found := layouts.find_ratings(root):
            if delimiter or heading:
                raise ConfigError(
                    f"delimiter={delimiter!r}, heading={heading!r}: the layout of {path} has its own. Name "
                    f"its file."
                )
            data = layouts.read(root, *found, columns, id_types)
            if root is path:
                _warn_of_others(path, data.files, columns)
            return data
        if root is not path:  # a zip
            names = ", ".join(name for names in layouts.RATINGS_FILES.values() for name in names)
            raise DataError(f"{path} has no file of ratings ({names}). Unpack it, and name the file itself.")
    asked = find_files(str(path))
    paths = [file for _, file in asked]
    sources = (
        open_source(file, delimiter, heading, partition)
        for file, partition in zip(paths, partitions([name for name, _ in asked]), strict=True)
    )
    return layouts.DataFiles(read_ratings(sources, columns, str(path), id_types), None, None, list(paths))


def _warn_of_others(folder: Path, read: Sequence[Traversable], columns: Columns) -> None:
    """Log a warning that names files of ratings beside those of a known layout: they are not read."""
    roles = {"user": columns.user, "item": columns.item, "rating": columns.rating or None}
    others = []
    with suppress(InputError):
        for name, file in find_files(str(folder), quiet=True):
            with suppress(InputError):
                if file not in read and find_columns(open_source(file).schema.names, roles, name, ()):
                    others.append(name)
    if others:
        log.warning(
            f"{folder} is read by its layout, from {', '.join(file.name for file in read)}. Not read, though "
            f"they have ratings, too: {', '.join(others)}. To read them, name them, or a glob of all."
        )


def _sha256(path: Path, files: list[Traversable]) -> str:
    if path.is_file():
        return sha256_of(path)
    read = sorted((file for file in files if isinstance(file, Path)), key=lambda file: file.name)
    return hashlib.sha256("".join(map(sha256_of, read)).encode()).hexdigest()


def _check_is(
    known: DataSet, published: DataSet | None, path: Path, sha256: str, ratings: Traversable, n_ratings: int
) -> None:
    """Refuse another data set under a known name; log a warning about an unpublished copy."""
    if published == known:
        return
    if published:
        raise DataError(f"{path} is {published.name}, not {known.name}.")
    if ratings.name not in layouts.RATINGS_FILES[known.ratings_file]:
        raise DataError(
            f"{path} is not {known.name}: its ratings are in {ratings.name}, those of {known.name} in "
            f"{known.ratings_file}. To read it as your own data, give its path in place of {known.name!r}."
        )
    if path.is_file():
        log.warning(
            f"{path} is not the published {known.name}.zip, but is read as you asked. Its SHA-256 is "
            f"{sha256}; published: {known.sha256}"
        )
    if n_ratings != known.n_ratings:
        log.warning(f"{path} has {n_ratings:,} ratings; {known.name} has {known.n_ratings:,}")
