"""The code of examples/embed_in_node.md: a module, and the server that uses it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
import runtimes_table
from patience import wait_until
from ports import free_port

from serve import Recommender

ROOT = Path(__file__).parents[3]
PACKAGES = ROOT / "demos" / "node" / "node_modules"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="there is no Node (version 20 or newer)"),
    pytest.mark.skipif(not PACKAGES.exists(), reason="run `npm ci --prefix demos/node` for what Node needs"),
]


@pytest.mark.parametrize("model", ["dot-bias", "dot-bias, string ids"])
def test_the_server_answers_as_the_recommender_does(tmp_path: Path, model: str) -> None:
    page = (ROOT / "examples" / "embed_in_node.md").read_text(encoding="utf-8")
    module, server = re.findall(r"^```js\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "recommender.mjs").write_text(module)
    (tmp_path / "server.mjs").write_text(server)
    (tmp_path / "node_modules").symlink_to(PACKAGES)
    bundle, port = runtimes_table.BUNDLES[model], free_port()
    recommender = Recommender.load(bundle, "cpu")
    known, address = recommender.users.first_id, f"http://127.0.0.1:{port}/"
    log = (tmp_path / "log").open("w")

    def answer(user: object) -> dict | None:
        assert process.poll() is None, (tmp_path / "log").read_text()
        with suppress(urllib.error.URLError), urllib.request.urlopen(f"{address}?user={user}") as response:
            return json.load(response)
        return None  # it does not listen yet

    command = ["node", tmp_path / "server.mjs", bundle, str(port)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: answer(known) is not None)
            for user in (known, "nobody"):
                unknown = -1 if isinstance(known, int) else "nobody"
                ranking = recommender.recommend(known if user == known else unknown, 5)
                found = answer(user)
                assert found is not None
                assert found["known"] == (user == known)
                assert [item["id"] for item in found["items"]] == [str(item) for item in ranking.item_ids]
        finally:
            process.terminate()
