"""The cache of the data sets that are known by name, and downloads into it."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from pathlib import Path

from recsys.data.catalog import DEFAULT, DataSet
from recsys.errors import DataError, DownloadError
from serve.files.atomic import new_file
from serve.files.checksum import sha256_of

CACHE_VARIABLE = "RECSYS_CACHE"
_EMBEDDED = Path(__file__).parent / "embedded" / f"{DEFAULT}.zip"

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder of downloaded zips: $RECSYS_CACHE, or the system's folder for caches."""
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("recsys-onnx"))


def local_path(known: DataSet) -> Path:
    """The path of a data set's zip, downloaded or not."""
    return _EMBEDDED if known.name == DEFAULT else cache_folder() / f"{known.name}.zip"


def fetch(known: DataSet) -> Path:
    """Return the path of a data set's zip, which is downloaded unless it is embedded or in the cache.

    Logs the terms before a download, and shows its progress on a terminal.

    Raises:
        DownloadError: no connection, an expired certificate, a full disk, or a wrong checksum.
        DataError: the embedded zip is damaged.
    """
    path = local_path(known)
    if path.is_file() and sha256_of(path) == known.sha256:
        return path
    if path == _EMBEDDED:
        raise DataError(f"{path} is damaged: its checksum is wrong. Install the package again.")
    import pooch

    log.warning("%s: %s", known.name, known.licence)
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            known.url,
            known_hash=f"sha256:{known.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30),
        )
    except (OSError, ValueError) as error:  # requests' errors are OSErrors; ValueError: a wrong checksum
        raise DownloadError(
            f"{known.name} could not be downloaded from {known.url}: {error}\n"
            f"Is there a network? The site's certificate was reported expired in August 2026; an expired one "
            f"is refused. Get the zip in another way, and name it: --from-file {known.name}.zip"
        ) from None
    return path


def keep(known: DataSet, zip_path: Path) -> Path:
    """Copy a zip from elsewhere into the cache, and return its new path.

    Raises:
        DataError: it is not the published zip.
        DownloadError: the cache can't be written.
    """
    if not zip_path.is_file():
        raise DataError(f"{zip_path} is not a file. Name the zip of {known.name}.")
    if (actual := sha256_of(zip_path)) != known.sha256:
        raise DataError(
            f"{zip_path} is not the published {known.name}.zip, and the cache holds only published zips: its "
            f"SHA-256 is {actual}, published is {known.sha256}. To read it all the same, give --from-file to "
            f"the command that reads it."
        )
    path = local_path(known)
    if path != _EMBEDDED:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with zip_path.open("rb") as source, new_file(path) as copy:
                shutil.copyfileobj(source, copy)
        except OSError as error:
            raise DownloadError(f"{zip_path} could not be copied to {path}: {error.strerror}") from None
    return path
