"""Downloads, from a server on this machine: files are checked, and wrong ones are not kept."""

from __future__ import annotations

import functools
import hashlib
import http.server
import logging
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recsys.data import catalog, load
from recsys.data.catalog import KNOWN, DataSet
from recsys.data.download import cache_folder, fetch, keep, local_path, sha256_of
from recsys.errors import DataError, DownloadError

CONTENT = b"not a zip, which makes no difference here" * 1_000


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def served(folder: Path, context: ssl.SSLContext | None = None) -> Iterator[str]:
    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True)
            server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client hangs up on it
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'https' if context else 'http'}://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "ml-tiny.zip").write_bytes(CONTENT)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def data_set(content: bytes = CONTENT) -> DataSet:
    return DataSet(
        "ml-tiny", hashlib.sha256(content).hexdigest(), len(content), 1, "ratings.csv", "its terms"
    )


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_download_is_checked_kept_and_not_repeated(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served(site) as url, caplog.at_level(logging.WARNING):
        monkeypatch.setattr(catalog, "BASE_URL", url)
        path = fetch(data_set())
    assert path == cache / "ml-tiny.zip"
    assert path.read_bytes() == CONTENT
    assert "its terms" in caplog.text
    assert fetch(data_set()) == path  # the server is gone
    path.write_bytes(CONTENT[:-1])  # a damaged file is fetched again
    with served(site) as url:
        monkeypatch.setattr(catalog, "BASE_URL", url)
        assert fetch(data_set()).read_bytes() == CONTENT


def test_a_certificate_that_does_not_hold_is_refused(
    site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = site.parent / "key.pem", site.parent / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=127.0.0.1"
    arguments = [*command.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(arguments, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with served(site, context) as url:
        monkeypatch.setattr(catalog, "BASE_URL", url)
        with pytest.raises(DownloadError, match=r"(?s)certificate verify failed.*--from-file ml-tiny\.zip"):
            fetch(data_set())
    assert files_in(cache) == []


def test_a_failed_download_leaves_nothing(site: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(site) as url:
        monkeypatch.setattr(catalog, "BASE_URL", url)
        with pytest.raises(DownloadError, match="does not match the known hash"):
            fetch(data_set(b"something else"))
        (site / "ml-tiny.zip").unlink()
        with pytest.raises(DownloadError, match="404"):
            fetch(data_set())
    with pytest.raises(DownloadError, match=r"Is there a network\?.*reported expired.*--from-file"):
        fetch(data_set())  # no server
    assert files_in(cache) == []


def test_a_zip_downloaded_by_hand_goes_into_the_cache(site: Path, cache: Path) -> None:
    path = keep(data_set(), site / "ml-tiny.zip")
    assert path.parent == cache == cache_folder()
    assert files_in(cache) == ["ml-tiny.zip"]
    assert fetch(data_set()) == path
    with pytest.raises(DataError, match="is not the published"):
        keep(data_set(b"something else"), site / "ml-tiny.zip")
    with pytest.raises(DataError, match="is not a file"):
        keep(data_set(), site)
    path.unlink()
    cache.rmdir()
    cache.write_text("a file in place of the folder")
    with pytest.raises(DownloadError, match="could not be copied"):
        keep(data_set(), site / "ml-tiny.zip")


def test_the_embedded_zip_is_the_published_one_and_its_damage_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = local_path(KNOWN["ml-latest-small"])
    assert sha256_of(embedded) == KNOWN["ml-latest-small"].sha256
    damaged = tmp_path / "ml-latest-small.zip"
    damaged.write_bytes(embedded.read_bytes()[:-1])
    monkeypatch.setattr("recsys.data.download._EMBEDDED", damaged)
    with pytest.raises(DataError, match="Install the package again"):
        load("ml-latest-small")
