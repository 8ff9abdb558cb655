"""`recsys push` through the real client of the Hub, to a stand-in of its HTTP interface in this process."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from fixture_bundles import FIXTURES, edit_manifest
from huggingface_hub import ModelCard, constants

from serve.bundle.bundle import open_bundle

from ..conftest import Run


class Hub(ThreadingHTTPServer):
    """Repositories in memory: each is its files by name."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}
        self.tokens: list[str | None] = []
        self.refusal: int | None = None


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].split("/")
        name = "/".join(parts[3:5])
        if parts[1:3] != ["api", "models"] or name not in self.server.repos:
            self.answer({"error": "Repository not found"}, 404)
        elif "tree" in parts:
            files = self.server.repos[name].items()
            self.answer(
                [{"type": "file", "path": path, "size": len(data), "oid": "0"} for path, data in files]
            )
        else:
            siblings = [{"rfilename": path} for path in self.server.repos[name]]
            known = {"id": name, "private": self.server.private[name], "siblings": siblings, "sha": "0" * 40}
            self.answer(known)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.tokens.append(self.headers.get("authorization"))
        parts = self.path.split("?")[0].split("/")
        if self.server.refusal:
            self.answer({"error": "no"}, self.server.refusal)
        elif self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            url = f"http://127.0.0.1:{self.server.server_port}/{name}"
            if name in self.server.repos:
                self.answer({"error": "You already created this model repo", "url": url}, 409)
                return
            self.server.repos[name] = {".gitattributes": b"", "old.onnx": b"old"}
            self.server.private[name] = asked.get("visibility") == "private" or bool(asked.get("private"))
            self.answer({"url": url, "name": name, "id": "1"})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "preupload" in parts:
            files = json.loads(body)["files"]
            self.answer(
                {
                    "files": [
                        {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files
                    ]
                }
            )
        elif "commit" in parts:
            repo = self.server.repos["/".join(parts[3:5])]
            for line in body.splitlines():
                entry = json.loads(line)
                value = entry["value"]
                if entry["key"] == "file":
                    assert value["encoding"] == "base64"
                    repo[value["path"]] = base64.b64decode(value["content"])
                elif entry["key"] == "deletedFile":
                    del repo[value["path"]]
            self.answer({"success": True, "commitOid": "c" * 40, "commitUrl": f"{self.path}/{'c' * 40}"})
        else:
            self.answer({"error": f"{self.path} is not part of the stand-in"}, 501)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    # The client reads HF_ENDPOINT and HF_TOKEN from the environment when it is imported, or asked.
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One without what users have rated."""
    path = Path(shutil.copytree(FIXTURES / "parts", tmp_path / "bundle"))
    (path / "seen.parquet").unlink()
    edit_manifest(path, lambda manifest: manifest["files"].pop("seen.parquet"))
    edit_manifest(path, lambda manifest: manifest.update(without_seen=True))
    return path


def test_every_file_arrives(hub: Hub, bundle: Path, tmp_path: Path, recsys: Run) -> None:
    """In one commit, and what was there before is gone; what is fetched is the same bundle."""
    code, out, err = recsys("push", bundle, "me/movies", "--json")
    assert code == 0, err
    version = open_bundle(bundle).version
    assert json.loads(out) == {"repo": "me/movies", "commit": "c" * 40, "version": version}
    repo = hub.repos["me/movies"]
    assert set(repo) - {".gitattributes"} == {path.name for path in bundle.iterdir()}
    assert set(hub.tokens) == {"Bearer hf_secret"}
    fetched = tmp_path / "fetched"
    fetched.mkdir()
    for name in repo.keys() - {".gitattributes"}:
        (fetched / name).write_bytes(repo[name])
    assert open_bundle(fetched).version == version
    card = ModelCard(repo["README.md"].decode())
    assert card.data.library_name == "onnx"
    assert card.data.eval_results[0].metric_type == "rmse"
    assert recsys("push", bundle, "me/movies")[0] == 0


def test_ratings_are_not_published_by_mistake(hub: Hub, recsys: Run) -> None:
    code, _, err = recsys("push", FIXTURES / "dot", "me/movies")
    assert code == 2
    assert "--without-seen" in err
    assert not hub.repos
    assert recsys("push", FIXTURES / "dot", "me/movies", "--private")[0] == 0
    assert hub.private["me/movies"]
    assert "seen.parquet" in hub.repos["me/movies"]
    hub.repos["me/open"], hub.private["me/open"] = {}, False
    code, _, err = recsys("push", FIXTURES / "dot", "me/open", "--private")
    assert code == 2
    assert "is there and public" in err
    assert not hub.repos["me/open"]
    assert recsys("push", FIXTURES / "dot", "me/open", "--with-seen")[0] == 0


def test_what_fails_is_one_line(hub: Hub, bundle: Path, recsys: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refusal = 403
    code, _, err = recsys("push", bundle, "me/movies")
    assert code == 1
    assert "403" in err
    assert err.count("\n") == 1
    assert recsys("push", bundle, "me/mo vies")[0] == 2
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    code, _, err = recsys("push", bundle, "me/movies")
    assert code == 1
    assert err.startswith("Error: http://127.0.0.1:9: ")
    (bundle / "score.onnx").write_bytes(b"")
    assert "score.onnx" in recsys("push", bundle, "me/movies")[2]
