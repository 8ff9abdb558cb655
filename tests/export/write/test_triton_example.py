"""The client of examples/serve_with_triton.md, against a stand-in that obeys the configuration."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import onnxruntime as ort
import runtimes_table

from export.write.triton import write_repository
from serve import Recommender
from serve.bundle.bundle import open_bundle

PAGE = Path(__file__).parents[3] / "examples" / "serve_with_triton.md"


def stand_in(repository: Path) -> HTTPServer:
    """A server of `recommend` by the KServe protocol, whose inputs lose the axes that the config reshapes."""
    session = ort.InferenceSession(repository / "recommend" / "1" / "model.onnx")
    config = (repository / "recommend" / "config.pbtxt").read_text()
    inputs = config[config.index("input [") : config.index("output [")].split("name: ")[1:]
    reshaped = {block.split('"')[1]: "reshape" in block for block in inputs}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v2/models/recommend/infer"
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            feeds = {}
            for given in asked["inputs"]:
                assert given["datatype"] == "INT64"
                rows = np.array(given["data"], dtype=np.int64).reshape(given["shape"])
                feeds[given["name"]] = rows[:, 0] if reshaped[given["name"]] else rows
            names = [output["name"] for output in asked["outputs"]]
            values = zip(names, session.run(names, feeds), strict=True)
            found = [{"name": name, "data": value.ravel().tolist()} for name, value in values]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"outputs": found}).encode())

        def log_message(self, *_: object) -> None:
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


def test_the_client_prints_the_recommenders_list(tmp_path: Path) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "client.py").write_text(code)
    bundle = runtimes_table.BUNDLES["dot-bias, string ids"]
    write_repository(open_bundle(bundle), tmp_path / "models")
    recommender = Recommender.load(bundle, "cpu")
    with stand_in(tmp_path / "models") as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for user in (recommender.users.first_id, "nobody"):
            command = [sys.executable, tmp_path / "client.py", url, bundle, user]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            ids = [line.split("\t")[0] for line in done.stdout.splitlines()]
            assert ids == [str(item) for item in recommender.recommend(user, 10).item_ids]
        server.shutdown()
