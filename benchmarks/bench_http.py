"""`recsys serve` under load: one-user recommendations beside a constant, overload, and the memory of workers.

    python benchmarks/bench_http.py [BUNDLE] [--rounds 5] [--seconds 3] [--large BUNDLE]

The load generator (wrk; http_load.py for loads that wrk does not make) and a service of one worker have one
CPU each. Overload and memory are measured on a bundle with many items, too, whose tables lie in one file;
without --large one is made (some minutes). The report states the bounds.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import uvloop
from http_load import Tally, fresh_connections, open_loop, percentile, post
from machine import describe_machine
from publish import publish

from serve.runtime.recommender import Recommender

BOUND = 0.5
CONNECTIONS = (1, 16, 64)
OVERLOAD = (0.5, 1, 2, 5)
# Half of what may wait in the worker: what the round before has left sheds nothing.
CAPACITY_CONNECTIONS = 32
# Many more than may wait in the worker: with all of them busy, nothing could be sent.
OVERLOAD_CONNECTIONS = 512
FRESH_RATES = (500, 1_000, 2_000, 4_000)
LATENCY_BOUND = 2.0
WORKERS = (1, 2, 4)
LARGE = {"n_users": 20_000, "n_items": 100_000, "n_ratings": 200_000, "n_factors": 128}


@dataclass
class Service:
    host: str
    port: int
    pid: int

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


@contextmanager
def serving(bundle: Path, *options: str, cpu: int | None = None) -> Iterator[Service]:
    """A service; on one CPU, if told which, and then this process on another."""
    before = os.sched_getaffinity(0)
    command = [sys.executable, "-m", "recsys", "serve", str(bundle), "--port", "0", *options]
    if cpu is not None:
        os.sched_setaffinity(0, {cpu})  # inherited
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        os.sched_setaffinity(0, before if cpu is None else {max(before - {cpu})})
        said = process.stdout.readline()
        found = re.search(r"http://(\S+):(\d+)", said)
        if found is None:
            sys.exit(f"the service did not start: {said}")
        yield Service(found[1], int(found[2]), process.pid)
    finally:
        os.sched_setaffinity(0, before)
        process.terminate()
        process.wait()


def asks(bundle: Path) -> list[bytes]:
    """The body of a request for every user, in an order that jumps."""
    served = Recommender.load(bundle, "cpu")
    order = np.random.default_rng(0).permutation(len(served.users))[:2000] + 1
    return [json.dumps({"user_id": served.users.one_id(int(index))}).encode() for index in order]


@dataclass
class Closed:
    """What wrk found: each connection sends its next request when the last one is answered."""

    answers: int
    seconds: float
    p50: float
    """Seconds."""
    p99: float
    refused: int
    """Answers other than 2xx."""
    failed: int

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answers / self.seconds


def closed_loop(
    service: Service, path: str, bodies: Sequence[bytes], *, n_connections: int, seconds: float
) -> Closed:
    """GET `path`, or POST each of the bodies in turn, as often as the connections get answered."""
    script = Path(__file__).with_name("wrk_requests.lua")
    command = ["wrk", "-t1", f"-c{n_connections}", f"-d{seconds:g}s", "-s", str(script)]
    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(b"\n".join(bodies))
        file.flush()
        command += [f"http://{service.host}:{service.port}", "--", path, *([file.name] if bodies else [])]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = Closed(**json.loads(done.stdout.splitlines()[-1]))
    assert found.failed == 0, done.stdout
    return found


def sizes(bundle: Path) -> str:
    model = Recommender.load(bundle, "cpu").manifest.model
    return f"{model.kind}, {model.n_users:,} users, {model.n_items:,} items, {model.n_factors} factors"


def ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def median_of(tallies: Sequence[Tally], percent: float) -> float:
    return statistics.median(tally.percentile(200, percent) for tally in tallies)


def throughput(
    service: Service, bodies: Sequence[bytes], rounds: int, seconds: float
) -> tuple[list[str], float]:
    """Rows of the table, and the ratio at the last number of connections."""
    rows, ratio, middle = [], float("nan"), statistics.median
    kinds: tuple[tuple[str, Sequence[bytes]], ...] = (("/health/live", []), ("/v1/recommend", bodies))
    for n_connections in CONNECTIONS:
        pairs = [
            [closed_loop(service, *kind, n_connections=n_connections, seconds=seconds) for kind in kinds]
            for _ in range(rounds)
        ]
        ratio = middle(answers.rate / constant.rate for constant, answers in pairs)
        for (path, bodies_of), found in zip(kinds, zip(*pairs, strict=True), strict=True):
            rows.append(
                f"| {n_connections} | `{path}` | {middle(f.rate for f in found):,.0f} | "
                f"{ms(middle(f.p50 for f in found))} | {ms(middle(f.p99 for f in found))} | "
                f"{sum(f.refused for f in found)} | {f'{ratio:.2f}' if bodies_of else ''} |"
            )
    return rows, ratio


@dataclass
class Overload:
    """Rows of the table, and what the bound is checked by."""

    rows: list[str]
    sent: dict[float, float]
    """Offered -> sent, both in times of capacity."""
    p99: dict[float, float]
    """Offered -> p99 of those accepted, in seconds since they were sent."""


async def overload(service: Service, bodies: Sequence[bytes], rounds: int, seconds: float) -> Overload:
    middle = statistics.median
    recommend = itertools.cycle([post("/v1/recommend", body) for body in bodies])
    measured = [
        closed_loop(service, "/v1/recommend", bodies, n_connections=CAPACITY_CONNECTIONS, seconds=seconds)
        for _ in range(rounds)
    ]
    assert not any(found.refused for found in measured)
    capacity = middle(found.rate for found in measured)
    head = [
        f"Capacity (closed loop, {CAPACITY_CONNECTIONS} connections): {capacity:,.0f} answers a second.\n",
        "| offered | sent | answered/s | shed/s | p50 ms | p99 ms | p99 ms since sent "
        "| shed: p99 ms since sent | left out: no connection | left out: late | lateness p99 ms |",
        "| --- " * 11 + "|",
    ]
    found = Overload(head, {}, {})
    for times in OVERLOAD:
        tallies = [
            await open_loop(
                service.host,
                service.port,
                recommend,
                rate=times * capacity,
                n_connections=OVERLOAD_CONNECTIONS,
                seconds=seconds,
            )
            for _ in range(rounds)
        ]
        for tally in tallies:
            assert tally.n_failed == 0
            assert set(tally.seconds) <= {200, 503}
        n_due = sum(len(tally.lateness) + tally.n_late + tally.n_unsent for tally in tallies)
        found.sent[times] = middle(len(tally.lateness) / tally.elapsed for tally in tallies) / capacity
        found.p99[times] = middle(percentile(t.seconds_since_sent[200], 99) for t in tallies)
        shed = [t for t in tallies if t.count(503)]
        shed_p99 = middle(percentile(t.seconds_since_sent[503], 99) for t in shed) if shed else None
        cells = [
            f"{times:g}x",
            f"{found.sent[times]:.2f}x",
            f"{middle(t.rate(200) for t in tallies):,.0f}",
            f"{middle(t.rate(503) for t in tallies):,.0f}",
            ms(median_of(tallies, 50)),
            ms(median_of(tallies, 99)),
            ms(found.p99[times]),
            "" if shed_p99 is None else ms(shed_p99),
            f"{sum(t.n_unsent for t in tallies) / n_due:.1%}",
            f"{sum(t.n_late for t in tallies) / n_due:.1%}",
            ms(middle(percentile(t.lateness, 99) for t in tallies)),
        ]
        found.rows.append(f"| {' | '.join(cells)} |")
    return found


async def fresh(service: Service, bodies: Sequence[bytes], rounds: int, seconds: float) -> list[str]:
    """Rows of the table of clients that open a connection for each request."""
    recommend = itertools.cycle([post("/v1/recommend", body) for body in bodies])
    middle, rows = statistics.median, []
    for rate in FRESH_RATES:
        tallies = [
            await fresh_connections(service.host, service.port, recommend, rate=rate, seconds=seconds)
            for _ in range(rounds)
        ]
        assert all(tally.n_failed == 0 for tally in tallies)
        answered, shed = (sum(tally.count(status) for tally in tallies) for status in (200, 503))
        late = sum(tally.n_late for tally in tallies)
        n_all = answered + shed + late
        p99 = middle(percentile(itertools.chain(*tally.seconds.values()), 99) for tally in tallies)
        cells = [f"{rate:,}", *(f"{n / n_all:.1%}" for n in (answered, shed, late))]
        rows.append(f"| {' | '.join(cells)} | {ms(median_of(tallies, 50))} | {ms(p99)} |")
    return rows


def memory(pid: int) -> dict[str, int]:
    """Bytes: Rss, Pss, and what of them is the process' own."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = {name: int(kib) << 10 for name, kib in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    own = found["Private_Clean"] + found["Private_Dirty"]
    return {"rss": found["Rss"], "pss": found["Pss"], "own": own}


def workers_and_memory(bundle: Path, bodies: Sequence[bytes], seconds: float) -> list[str]:
    tables = (bundle / "tables.bin").stat().st_size
    rows = [
        f"`tables.bin` of this bundle has {tables / 2**20:,.0f} MiB.\n",
        "| workers | tables | Σ RSS MiB | Σ PSS MiB | PSS of one | own to one | answers/s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for n_workers, share in itertools.product(WORKERS, ("--no-share-tables", "--share-tables")):
        options = ["--workers", str(n_workers), "--threads", "1", "--max-concurrency", "256", share]
        with serving(bundle, *options) as service:
            # The conformance cases have run every graph; this touches every page of the tables.
            found = closed_loop(service, "/v1/recommend", bodies, n_connections=32, seconds=seconds)
            assert not found.refused
            used = [memory(pid) for pid in service.workers()]
        total = {name: sum(each[name] for each in used) / 2**20 for name in used[0]}
        rows.append(
            f"| {n_workers} | `{share}` | {total['rss']:,.0f} | {total['pss']:,.0f} | "
            f"{total['pss'] / n_workers:,.0f} | {total['own'] / n_workers:,.0f} | {found.rate:,.0f} |"
        )
    return rows


def make_large(folder: Path) -> Path:
    """A bundle with made-up ratings and large tables."""
    rng = np.random.default_rng(0)
    n_users, n_items, n_ratings = LARGE["n_users"], LARGE["n_items"], LARGE["n_ratings"]
    items = np.concatenate([np.arange(1, n_items + 1), rng.integers(1, n_items + 1, n_ratings - n_items)])
    users = np.concatenate([np.arange(1, n_users + 1), rng.integers(1, n_users + 1, n_ratings - n_users)])
    rows = np.column_stack([users, items, rng.integers(1, 6, n_ratings)])
    ratings = folder / "ratings.csv"
    np.savetxt(ratings, rows, fmt="%d", delimiter=",", header="user,item,rating", comments="")
    recsys = [sys.executable, "-m", "recsys"]
    columns = ["--user-column", "user", "--item-column", "item", "--rating-column", "rating"]
    training = ["--model", "dot-bias", "--factors", str(LARGE["n_factors"]), "--epochs", "1"]
    training += ["--batch-size", "10000", "--duplicates", "last", "--output", str(folder / "run")]
    subprocess.run([*recsys, "train", "--data", str(ratings), *columns, *training], check=True)
    export = ["export", str(folder / "run"), "--output", str(folder / "bundle"), "--tables", "always"]
    subprocess.run([*recsys, *export], check=True)
    return folder / "bundle"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", nargs="?", type=Path, default=Path("artifacts/default"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--large", type=Path)
    arguments = parser.parse_args()
    rounds, seconds = arguments.rounds, arguments.seconds

    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        sys.exit("this needs two CPUs: one for the service, one for its clients")
    # A collection would delay the clients.
    gc.disable()
    bodies = asks(arguments.bundle)
    with serving(arguments.bundle, "--threads", "1", cpu=cpus[0]) as service:
        table, ratio = throughput(service, bodies, rounds, seconds)
    with serving(arguments.bundle, "--threads", "1", cpu=cpus[0]) as service:
        alone = uvloop.run(fresh(service, bodies, rounds, seconds))
    with tempfile.TemporaryDirectory() as scratch:
        large = arguments.large or make_large(Path(scratch))
        overloaded = []
        for bundle in (arguments.bundle, large):
            with serving(bundle, "--threads", "1", cpu=cpus[0]) as service:
                overloaded.append(uvloop.run(overload(service, asks(bundle), rounds, seconds)))
        used = workers_and_memory(large, asks(large), seconds)
        small_sizes, large_sizes = sizes(arguments.bundle), sizes(large)
    head = (
        f"Bundle: {small_sizes}. {rounds} rounds of {seconds:g} s; medians.\n"
        f"{describe_machine('fastapi', 'uvicorn', 'uvloop', 'onnxruntime-gpu', 'onnxruntime')}"
    )
    publish(
        "http",
        REPORT.format(
            head=head,
            table="\n".join(table),
            ratio=f"{ratio:.2f}",
            bound=f"{BOUND:g}",
            overload="\n".join(overloaded[0].rows),
            overload_large="\n".join(overloaded[1].rows),
            latency_bound=f"{LATENCY_BOUND:g}",
            fresh="\n".join(alone),
            memory="\n".join(used),
            large=large_sizes,
            small=small_sizes,
            connections=OVERLOAD_CONNECTIONS,
        ),
    )
    if ratio < BOUND:
        sys.exit(f"recommendations came {ratio:.2f} times as often as a constant, less than {BOUND}")
    sent, p99 = overloaded[1].sent, overloaded[1].p99
    for times in (2, 5):
        if sent[times] < 0.9 * times:
            sys.exit(f"of {times} times the capacity only {sent[times]:.2f} could be sent")
        if (ratio := p99[times] / p99[1]) > LATENCY_BOUND:
            sys.exit(f"at {times} times the capacity, accepted requests wait {ratio:.1f} times as long")


REPORT = """# `recsys serve` under load

`python benchmarks/bench_http.py`

{head}

The service has one CPU and the load generator another, except in the last table. Compare ratios, not rates.

## One worker, one-user recommendations beside a constant

`/v1/recommend`, ten items, seen items left out; `/health/live` passes the same server, middleware and router.
Closed loop (wrk). Under load, recommendations that wait are computed together; one connection alone never
waits.

| connections | route | answers/s | p50 ms | p99 ms | refused | ratio |
| --- | --- | --- | --- | --- | --- | --- |
{table}

Recommendations to constants at the most connections: **{ratio}** (bound: at least {bound}).

## Overload

One worker, `--max-concurrency 64` (the default), open loop over {connections} connections: requests come at
their rate whatever happens. Latency counts from when a request was due, or sent. "Sent" is in times of the
capacity; left out is what was due when all connections were busy, or the generator was 5 ms late.

A refusal costs tens of microseconds, an answer over a small catalogue a few hundred: at several times its
capacity a worker answers fewer, later. Bundle: {small}.

{overload}

Over a larger catalogue, computing is most of the work. The bound: at 2 and 5 times the capacity, p99 since
sent at most {latency_bound} times that at 1. Bundle: {large}.

{overload_large}

## A connection for each request

Over the small catalogue; requests a second, latency since a request was due. Above what can be answered,
requests wait in the system's queue of connections.

| offered | answered | shed | left out: late | p50 ms of those answered | p99 ms of all |
| --- | --- | --- | --- | --- | --- |
{fresh}

## Workers and memory

The larger bundle; its tables lie in one file that ONNX Runtime maps. PSS counts a page that n processes share
as 1/n to each.

{memory}
"""


if __name__ == "__main__":
    main()
