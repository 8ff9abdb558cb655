"""Where the data sets known by name lie on this machine, and how they get there."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from pathlib import Path

from recsys.data.catalog import DEFAULT, KNOWN, DataSet
from recsys.errors import DataError, DownloadError
from serve.files.checksum import sha256_of

CACHE_VARIABLE = "RECSYS_CACHE"
_EMBEDDED = Path(__file__).parent / "embedded" / f"{DEFAULT}.zip"

log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where downloaded zips are kept: $RECSYS_CACHE, or the system's folder for caches."""
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("recsys-onnx"))


def local_path(known: DataSet) -> Path:
    """Where the zip of a data set lies, or would lie once it is downloaded."""
    return _EMBEDDED if known.name == DEFAULT else cache_folder() / f"{known.name}.zip"


def fetch(known: DataSet) -> Path:
    """The zip of a data set, checked: the embedded one, the cached one, or else downloaded.

    Logs the terms before it downloads; shows progress on a terminal.

    Raises:
        DownloadError: no connection, an expired certificate, a full disk, a checksum other than the
            published one.
        DataError: the embedded zip is damaged.
    """
    path = local_path(known)
    there = path.is_file() and sha256_of(path) == known.sha256
    if there:
        return path
    if path == _EMBEDDED:
        raise DataError(
            f"{path} is damaged: its checksum is not the published one. Install the package again."
        )
    import pooch

    log.warning("%s: %s", known.name, known.licence)
    # Pooch says each step at level INFO in a log of its own, which nobody has asked for.
    pooch.get_logger().setLevel("WARNING")
    try:
        pooch.retrieve(
            known.url,
            known_hash=f"sha256:{known.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), timeout=30),
        )
    except (OSError, ValueError) as error:  # of requests, of the disk; ValueError: another checksum
        raise DownloadError(
            f"{known.name} could not be downloaded from {known.url}: {error}\n"
            f"Is there a network? The site's certificate was reported expired in August 2026, and an expired "
            f"one is never accepted. Get the zip in another way, and name it: --from-file {known.name}.zip"
        ) from None
    return path


def keep(known: DataSet, zip_path: Path) -> Path:
    """Copy a zip that was downloaded by other means into the cache.

    Raises:
        DataError: it is not the published file; such a one can be read in place, by `--from-file`.
        DownloadError: the cache can't be written.
    """
    if not zip_path.is_file():
        raise DataError(f"{zip_path} is no file. Name the zip of {known.name}.")
    actual = sha256_of(zip_path)
    if actual != known.sha256:
        raise DataError(
            f"{zip_path} is not the published {known.name}.zip, and only that is kept in the cache: its "
            f"SHA-256 is {actual}, published is {known.sha256}. To read it all the same, give --from-file to "
            f"the command that reads it."
        )
    path = local_path(known)
    if path == _EMBEDDED:
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as beside:
            try:
                with zip_path.open("rb") as source:
                    shutil.copyfileobj(source, beside)
                beside.flush()
                os.fsync(beside.fileno())
                Path(beside.name).replace(path)
            except BaseException:
                Path(beside.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise DownloadError(f"{zip_path} could not be copied to {path}: {error.strerror}") from None
    return path


def named_by_hash(sha256: str) -> DataSet | None:
    """The data set whose published zip has this checksum."""
    return next((known for known in KNOWN.values() if known.sha256 == sha256), None)
