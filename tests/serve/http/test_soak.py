"""A service at half load for ten minutes, with reloads: every value is checked, and memory stays flat.

`RECSYS_SOAK_SECONDS=60 pytest -m nightly tests/serve/http/test_soak.py` takes a minute.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fixture_bundles import FIXTURES

from serve.runtime.rankings import Ranking
from serve.runtime.recommender import Recommender

from .conftest import Service, point, running
from .test_load_and_stop import request

SECONDS = float(os.environ.get("RECSYS_SOAK_SECONDS", "600"))
N_CLIENTS = 8
N_RELOADS = 30
N_WORKERS = 2
# Of each worker's 150 MiB: what an allocator may keep, and less than a leak of one bundle in each reload.
MAY_GROW = 8 << 20
# Batched scores differ from single ones by float32 rounding.
TOLERANCE = 1e-5


class Truth:
    """What one bundle answers, according to its Recommender."""

    def __init__(self, bundle: str) -> None:
        self.recommender = Recommender.load(FIXTURES / bundle, "cpu", threads=1)
        self.longest: dict[str, Ranking] = {}

    def check(self, route: str, body: dict[str, Any], found: dict[str, Any]) -> None:
        """Every value of an answer."""
        if route == "score":
            expected = self.recommender.score(body["user_id"], body["item_ids"])
            assert [row["item_id"] for row in found["scores"]] == body["item_ids"]
            given = [row["score"] for row in found["scores"]]
            np.testing.assert_allclose(given, expected.scores, atol=TOLERANCE)
            return
        options = {name: value for name, value in body.items() if name != "top_k"}
        key = f"{route} {options}"
        if key not in self.longest:
            self.longest[key] = self.rank(route, options)
        self.check_items(found["items"], self.longest[key], body["top_k"])

    def rank(self, route: str, options: dict[str, Any]) -> Ranking:
        """The longest list."""
        if route == "recommend":
            return self.recommender.recommend(options["user_id"], 50, exclude_seen=options["exclude_seen"])
        if route == "similar-items":
            return self.recommender.similar_items(options["item_id"], 50)
        rated = options["ratings"]
        return self.recommender.fold_in([r["item_id"] for r in rated], [r["rating"] for r in rated], 50)

    def check_items(self, items: list[dict[str, Any]], longest: Ranking, top_k: int) -> None:
        """By value at each rank; ids are free within ties."""
        n = min(top_k, longest.count)
        place = {item_id: at for at, item_id in enumerate(longest.item_ids[: longest.count].tolist())}
        found = [place[row["item_id"]] for row in items]
        assert len(set(found)) == len(items) == n
        scores = [row["score"] for row in items]
        np.testing.assert_allclose(scores, longest.scores[:n], atol=TOLERANCE)
        np.testing.assert_allclose(scores, longest.scores[found], atol=TOLERANCE)
        if longest.ratings is not None:
            np.testing.assert_allclose([r["rating"] for r in items], longest.ratings[found], atol=TOLERANCE)
        catalogue, indices = self.recommender.items, longest.item_indices[found].tolist()
        assert [row["title"] for row in items] == [catalogue[index].title for index in indices]


def made_up(rng: np.random.Generator, user_ids: list[int], item_ids: list[int]) -> tuple[str, dict[str, Any]]:
    """A valid request: its route and its body."""
    route = str(rng.choice(["recommend", "score", "similar-items", "fold-in"], p=[0.6, 0.2, 0.1, 0.1]))
    top_k, some = int(rng.integers(1, 51)), rng.integers(len(item_ids), size=3).tolist()
    user_id = user_ids[rng.integers(len(user_ids))]
    if route == "recommend":
        return route, {"user_id": user_id, "top_k": top_k, "exclude_seen": bool(rng.integers(2))}
    if route == "score":
        return route, {"user_id": user_id, "item_ids": [item_ids[at] for at in some]}
    if route == "similar-items":
        return route, {"item_id": item_ids[some[0]], "top_k": top_k}
    rated = [{"item_id": item_ids[at], "rating": 0.5 + at % 10 / 2} for at in sorted(set(some))]
    return route, {"ratings": rated, "top_k": top_k}


class Client:
    """One connection, which is opened once."""

    def __init__(self, truths: dict[str, Truth], seed: int, counts: Counter[str]) -> None:
        self.truths, self.counts, self.rng = truths, counts, np.random.default_rng(seed)
        some = next(iter(truths.values())).recommender
        self.user_ids = [some.users.one_id(n) for n in range(1, len(some.users) + 1)]
        self.item_ids = [some.items.ids.one_id(n) for n in range(1, len(some.items.ids) + 1)]

    async def run(self, service: Service, until: float, interval: float) -> None:
        """Ask at most once in `interval` seconds."""
        reader, writer = await asyncio.open_connection(*service.address)
        due = time.monotonic()
        while (now := time.monotonic()) < until:
            await asyncio.sleep(max(0.0, due - now))
            due = max(now, due) + interval
            route, body = made_up(self.rng, self.user_ids, self.item_ids)
            writer.write(request(json.dumps(body).encode(), route))
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head)
            assert length, head
            content = await reader.readexactly(int(length[1]))
            assert head.startswith("HTTP/1.1 200"), content
            found = json.loads(content)
            assert f"x-model-version: {found['model_version']}" in head
            self.truths[found["model_version"]].check(route, body, found)
            self.counts[route] += 1
        writer.close()
        await writer.wait_closed()


def resident(pid: int) -> int:
    """Bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.nightly
def test_a_service_at_half_load(tmp_path: Path, link: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundles = ["dot", "dot-bias"]
    truths = {truth.recommender.bundle.version: truth for truth in map(Truth, bundles)}
    counts: Counter[str] = Counter()
    memory: dict[int, list[int]] = {}
    clients = [Client(truths, seed, counts) for seed in range(N_CLIENTS)]

    async def load(service: Service, seconds: float, interval: float = 0.0) -> int:
        before, until = counts.total(), time.monotonic() + seconds
        await asyncio.gather(*(client.run(service, until, interval) for client in clients))
        return counts.total() - before

    async def watch(service: Service, pids: list[int]) -> None:
        """Reload, and look at the memory shortly before the next reload."""
        async with httpx.AsyncClient(base_url=service.url) as client:
            for number in range(N_RELOADS):
                point(link, FIXTURES / bundles[(number + 1) % 2])
                await asyncio.sleep(SECONDS / N_RELOADS)
                ready = (await client.get("/health/ready")).json()
                assert ready["last_error"] is None
                assert ready["status"] == "ready"
                for pid in pids:
                    memory.setdefault(pid, []).append(resident(pid))

    async def soak(service: Service) -> float:
        seconds = SECONDS / 30
        per_second = await load(service, seconds) / seconds / 2
        interval = N_CLIENTS / per_second
        await asyncio.gather(load(service, SECONDS, interval), watch(service, service.children()))
        return per_second

    with running(tmp_path, link, "--workers", str(N_WORKERS)) as service:
        workers = service.children()
        half = asyncio.run(soak(service))
        assert service.children() == workers, "a worker was replaced"
        log = service.log()
    assert "Traceback" not in log
    assert log.count("answers from now on") >= N_RELOADS, log
    grown = {pid: np.median(series[-5:]) - np.median(series[5:10]) for pid, series in memory.items()}
    report = [
        f"{counts.total():,} answers checked in {SECONDS:g} s: {dict(counts)}",
        f"{half:,.0f}/s asked for, half of what {N_CLIENTS} clients reach without pauses",
        f"{log.count('answers from now on')} reloads in {N_WORKERS} workers; MiB resident before each:",
        *(" ".join(f"{size / 2**20:.0f}" for size in series) for series in memory.values()),
    ]
    with capsys.disabled():
        print("", *report, sep="\n")  # noqa: T201
    assert len(grown) == N_WORKERS
    assert max(grown.values()) < MAY_GROW, grown
