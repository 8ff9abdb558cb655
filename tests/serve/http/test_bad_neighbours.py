"""A request that fails, among others that are computed in the same run: the others get their answers."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fixture_bundles import FIXTURES, edit_manifest
from onnx_bytes import block, tensor

from serve.runtime.recommender import Recommender

from .conftest import Service, running
from .test_load_and_stop import request
from .test_refusals import refused

FAILING = 7
"""The index of the user whose recommendation fails."""
N_USERS = 30
TOLERANCE = 1e-5


def node(op_type: str, inputs: Sequence[str], output: str) -> bytes:
    """A field of a GraphProto."""
    return block(1, b"".join(block(1, name) for name in inputs) + block(2, output) + block(4, op_type))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """As `dot-bias`, but the graph looks up a row that does not exist for one user."""
    copied = Path(shutil.copytree(FIXTURES / "dot-bias", tmp_path / "bundle"))
    path = copied / "recommend.onnx"
    rows = np.zeros(N_USERS + 1, np.int64)
    rows[FAILING] = 1
    more = [
        node("Gather", ["rows", "user_index"], "row"),
        node("Gather", ["nothing", "row"], "zero"),
        node("Add", ["raw_scores", "zero"], "top_scores"),
        block(5, tensor("rows", rows.shape, 7, raw=rows.tobytes())),
        block(5, tensor("nothing", (1, 1), 1, raw=bytes(4))),
    ]
    # The name comes first as that of a node's output, and then as that of the graph's.
    model = path.read_bytes().replace(b"top_scores", b"raw_scores", 1)
    # The graph is field 7, and its length takes two bytes, 7 bits in each.
    start = model.index(bytes([7 << 3 | 2])) + 3
    stop = start + (model[start - 2] & 0x7F | model[start - 1] << 7)
    path.write_bytes(model[: start - 3] + block(7, model[start:stop] + b"".join(more)) + model[stop:])
    edit_manifest(copied)
    return copied


async def ask_at_once(service: Service, bodies: Sequence[Any]) -> list[httpx.Response]:
    """All requests are sent, each over its own connection, before an answer is read."""
    opened = [await asyncio.open_connection(*service.address) for _ in bodies]
    for (_, writer), body in zip(opened, bodies, strict=True):
        writer.write(request(json.dumps(body).encode()))
    responses = []
    for reader, writer in opened:
        head, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        content = await reader.readexactly(int(headers["content-length"]))
        responses.append(httpx.Response(int(head.split()[1]), headers=headers, content=content))
        writer.close()
        await writer.wait_closed()
    return responses


def test_a_request_that_fails_takes_no_other_along(tmp_path: Path, bundle: Path) -> None:
    """240 valid requests among some of each kind that is refused or fails."""
    recommender = Recommender.load(FIXTURES / "dot-bias", "cpu", threads=1)
    user_ids = [recommender.users.one_id(index) for index in range(1, N_USERS + 1)]
    failing = user_ids.pop(FAILING - 1)
    valid = [{"user_id": user_ids[n % len(user_ids)], "top_k": 1 + n % 50} for n in range(240)]
    wrong = [
        (500, "internal", {"user_id": failing}),
        (422, "invalid_request", {"user_id": 10, "top_k": 51}),
        (422, "invalid_request", {"user_id": "10"}),
        (404, "unknown_id", {"user_id": 7, "unknown": "error"}),
    ]
    bodies: list[Any] = []
    for place, body in enumerate(valid):
        if place % 20 == 0:
            bodies += [refusal[2] for refusal in wrong]
        bodies.append(body)
    with running(tmp_path, bundle, "--max-concurrency", str(len(bodies))) as service:
        responses = asyncio.run(ask_at_once(service, bodies))
    n_answered = 0
    for body, response in zip(bodies, responses, strict=True):
        expected = [(status, code) for status, code, refusal in wrong if refusal == body]
        if expected:
            refused(response, *expected[0])
            continue
        assert response.status_code == 200, response.text
        scores = [item["score"] for item in response.json()["items"]]
        alone = recommender.recommend(body["user_id"], body["top_k"])
        np.testing.assert_allclose(scores, alone.scores[: alone.count], atol=TOLERANCE)
        n_answered += 1
    assert n_answered == len(valid)
