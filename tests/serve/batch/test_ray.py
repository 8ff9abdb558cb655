"""The cluster engine on a real cluster of several nodes: the same bytes, whoever dies."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from patience import PATIENCE, wait_until
from ports import free_port

from serve.batch.fragments import Engine, Outcome
from serve.batch.ray_engine import ray_engine, shares
from serve.batch.recommend import Recommend
from serve.batch.score import Score
from serve.errors import BadRowError, JobError

from .conftest import BUNDLE, DoJob, contents, hit_at_work, make_pairs, score_command

# A cluster takes half a minute to start. Warnings are Ray's own, of its sockets and of releases to come.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

OBJECT_STORE = 80_000_000
SLOWLY = {"part_rows": 200, "batch_rows": 1}
"""So that workers are at work when something is done to them."""
BUSY = "ray::RayWorker.run"
"""The title of a worker that is at a fragment."""


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.parquet"
    pq.write_table(make_pairs(BUNDLE, 4_000), path, row_group_size=200)
    return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A head that does no work, and two nodes of one CPU."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.cluster_utils import Cluster

    # How often Ray asks a node for its health is most of such a test. A dead one refuses at once; a slow one
    # is to have its time.
    impatient = {
        "health_check_initial_delay_ms": 0,
        "health_check_period_ms": 500,
        "health_check_timeout_ms": 20_000,
    }
    head = {
        "num_cpus": 0,
        "object_store_memory": OBJECT_STORE,
        "include_dashboard": False,
        "_system_config": impatient | {"health_check_failure_threshold": 3},
    }

    def started(attempts: int = 3) -> Any:
        cluster = Cluster()
        try:
            cluster.add_node(**head)
            for _ in range(2):
                cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)
        except Exception as error:
            cluster.shutdown()
            # Ray gives a node half a minute to start, which a busy machine may need.
            if "timed out" not in str(error).lower() or attempts == 1:
                raise
            sys.stderr.write(f"Ray took too long to start; attempts left: {attempts - 1}\n")
            return started(attempts - 1)
        return cluster

    cluster = started()
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def between(act: Callable[[], bool], workers: int = 2) -> Engine:
    """The engine, which calls `act` after each fragment until it returns true."""

    def engine(*arguments: Any) -> Generator[Outcome]:
        happened = False
        for outcome in ray_engine(None, workers, 0)(*arguments):
            yield outcome
            happened = happened or act()
        assert happened

    return engine


def actors(node: Any) -> dict[int, str]:
    """Processes of our actor on a node of the cluster, with the titles that Ray gives them."""
    (raylet,) = node.all_processes["raylet"]
    found = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and f"PPid:\t{raylet.process.pid}\n" in (entry / "status").read_text():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().rstrip(b"\0 ").decode()
    return {pid: title for pid, title in found.items() if title.startswith("ray::RayWorker")}


def test_the_bytes_of_the_local_engine(cluster: Any, pairs: Path, tmp_path: Path, do: DoJob) -> None:
    for name, task, source in (("score", Score(), pairs), ("recommend", Recommend(), None)):
        options = {"part_rows": 200 if source else 10, "batch_rows": 150}
        local = do(task, source, output=str(tmp_path / name), **options)
        remote = do(
            task, source, output=str(tmp_path / f"{name}-ray"), engine=ray_engine(None, 2, 0), **options
        )
        assert remote == local
        assert contents(tmp_path / f"{name}-ray") == contents(tmp_path / name)


@pytest.mark.slow
def test_a_killed_worker_is_replaced(cluster: Any, pairs: Path, tmp_path: Path, do: DoJob) -> None:
    do(Score(), pairs, **SLOWLY)

    def kill() -> bool:
        busy = [pid for node in cluster.worker_nodes for pid, title in actors(node).items() if title == BUSY]
        for pid in busy[:1]:
            os.kill(pid, signal.SIGKILL)
        return bool(busy)

    do(Score(), pairs, output=str(tmp_path / "ray"), engine=between(kill), **SLOWLY)
    assert contents(tmp_path / "ray") == contents(tmp_path / "out")


@pytest.mark.slow  # Ray takes its time to miss a node
def test_a_killed_node_is_done_without(cluster: Any, pairs: Path, tmp_path: Path, do: DoJob) -> None:
    do(Score(), pairs, **SLOWLY)
    extra = cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE)

    def kill() -> bool:
        wait_until(lambda: actors(extra))  # the other nodes would else be done before it begins
        if BUSY not in actors(extra).values():
            time.sleep(0.2)  # it loads meanwhile, and the others get nothing new to do
            return False
        cluster.remove_node(extra, allow_graceful=False)
        return True

    do(Score(), pairs, output=str(tmp_path / "ray"), engine=between(kill, workers=3), **SLOWLY)
    assert contents(tmp_path / "ray") == contents(tmp_path / "out")


@pytest.mark.slow
def test_workers_that_die_again_and_again_stop_the_job(
    cluster: Any, pairs: Path, tmp_path: Path, do: DoJob
) -> None:
    over = threading.Event()

    def kill_all() -> None:
        while not over.wait(0.02):
            for node in cluster.worker_nodes:
                for pid in actors(node):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_all)
    killer.start()
    try:
        with pytest.raises(JobError, match=r"4 workers have died, .* --resume"):
            do(Score(), pairs, part_rows=4_000, batch_rows=1, engine=ray_engine(None, 1, 0))
    finally:
        over.set()
        killer.join()
    do(Score(), pairs, part_rows=4_000, batch_rows=1, resume=True, engine=ray_engine(None, 1, 0))


@pytest.mark.slow
def test_errors_are_those_of_the_local_engine(cluster: Any, tmp_path: Path, do: DoJob) -> None:
    path = tmp_path / "users.csv"
    path.write_text("user_id\n" + "10\n" * 50 + "x\n" + "20\n" * 50)
    with pytest.raises(BadRowError, match=r"users\.csv, line 52: user_id 'x'"):
        do(Recommend(), path, part_rows=20, engine=ray_engine(None, 2, 0))
    options = {"part_rows": 20, "on_bad_row": "quarantine"}
    summary = do(Recommend(), path, resume=True, engine=ray_engine(None, 2, 0), **options)
    assert (summary.rows_in, summary.quarantined) == (101, 1)
    do(Recommend(), path, output=str(tmp_path / "local"), **options)
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def test_an_error_of_ours_in_a_worker_is_one_line(cluster: Any, pairs: Path, do: DoJob) -> None:
    """It would come again and again, so no worker is replaced."""

    def engine(plan: Any, fragments: Any, *others: Any) -> Generator[Outcome]:
        return ray_engine(None, 2, 0)(plan, [msgspec.structs.replace(fragments[0], file=10**6)], *others)

    with pytest.raises(JobError, match=r"^a worker failed: IndexError: list index out of range$"):
        do(Score(), pairs, engine=engine)


@pytest.mark.parametrize(
    ("nodes", "n_parts", "workers", "gpus", "default", "expected"),
    [
        ([{"CPU": 8.0}], 100, None, 0, 1, (1, 8)),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 100, 4, 0, 1, (4, 4)),
        ([{"CPU": 8.0}, {"CPU": 2.0}], 100, 3, 0, 1, (3, 2)),
        ([{"CPU": 3.0}] * 3, 100, 4, 0, 1, (4, 1)),
        ([{"CPU": 8.0}, {"memory": 1.0}], 3, 50, 0, 1, (3, 2)),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 100, None, 0, 5, (5, 2)),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 100, None, 0, 1, (2, 8)),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 100, 3, 0, 16, (3, 4)),
        ([{"CPU": 8.0}, {"CPU": 8.0}], 4, None, 0, 16, (4, 4)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 32.0}], 100, None, 1, 1, (1, 8)),
        ([{"CPU": 8.0, "GPU": 2.0}, {"CPU": 32.0}], 100, 4, 0.5, 1, (4, 2)),
    ],
)
def test_workers_share_the_cpus(
    nodes: list[dict[str, float]],
    n_parts: int,
    workers: int | None,
    gpus: float,
    default: int,
    expected: tuple[int, int],
) -> None:
    assert shares(nodes, n_parts, workers, gpus, lambda cpus: default) == expected


@pytest.mark.parametrize(
    ("nodes", "workers", "gpus", "message"),
    [
        ([{"memory": 1.0}], 2, 0, "needs a CPU, and no node"),
        ([{"CPU": 2.0}], 50, 0, "50 workers were asked for, and the cluster has room for 2"),
        ([{"CPU": 2.0}, {"CPU": 2.0, "GPU": 1.0}], 1, 2, "needs a CPU and 2 GPUs, and no node"),
        ([{"CPU": 8.0, "GPU": 1.0}], 2, 1, "2 workers were asked for, and the cluster has room for 1"),
    ],
)
def test_workers_without_room_are_refused(
    nodes: list[dict[str, float]], workers: int, gpus: float, message: str
) -> None:
    with pytest.raises(JobError, match=message):
        shares(nodes, 100, workers, gpus)


def test_gpus_for_a_job_on_the_cpu_are_refused(cluster: Any, tmp_path: Path, do: DoJob) -> None:
    with pytest.raises(JobError, match="compute on the CPU"):
        do(Recommend(), engine=ray_engine(None, 1, 1))
    assert not list(tmp_path.iterdir()), "nothing has begun"


def test_a_cluster_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    users = tmp_path / "users.csv"
    users.write_text("user_id,item_id\n10,1001\n")
    arguments = score_command("--input", users, "--output", tmp_path / "out")
    arguments += ["--engine", "ray", "--address", "127.0.0.1:1"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "no Ray cluster at 127.0.0.1:1" in done.stderr
    assert list(tmp_path.iterdir()) == [users], "nothing has begun"


@pytest.mark.slow  # starting and stopping Ray by its own command; CI runs it
def test_a_killed_driver_is_resumed_on_separate_ray_processes(pairs: Path, tmp_path: Path, do: DoJob) -> None:
    """Nodes started by hand (`ray start`), the command as the driver, killed without warning."""
    do(Score(), pairs, **SLOWLY)
    # As on machines of one's own: a cluster has a token, and who knows it belongs to it.
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = os.environ | token | {"RAY_USAGE_STATS_ENABLED": "0"}
    for name in ("RAY_ADDRESS", "RAY_JOB_ID"):
        environment.pop(name, None)

    port = free_port()
    with node(environment, "--head", f"--port={port}", "--include-dashboard=false") as head:
        wait_until(lambda: accepts(port))
        with node(environment, f"--address=127.0.0.1:{port}") as other:
            for process in (head, other):
                assert any("Ray runtime started" in line for line in process.stdout or ())
            output = tmp_path / "ray"
            arguments = [
                *score_command("--input", pairs, "--output", output, "--part-rows", 200, "--batch-rows", 1),
                *("--engine", "ray", "--address", f"127.0.0.1:{port}", "--workers", "2"),
            ]
            environment.pop("RAY_AUTH_MODE")  # which a token is taken to mean
            hit = hit_at_work(
                arguments,
                output,
                lambda _: list(tmp_path.glob(".ray.partial/part-*")),
                lambda driver: driver.kill(),
                env=environment,
            )
            assert hit.returncode == -signal.SIGKILL, hit.said
            done = subprocess.run(
                [*arguments, "--resume"], env=environment, capture_output=True, text=True, timeout=PATIENCE
            )
            assert done.returncode == 0, done.stderr
            assert contents(output) == contents(tmp_path / "out")


@pytest.mark.slow  # Ray is started for it, with another idea of how much memory there is
def test_workers_that_ray_kills_for_want_of_memory_have_died(pairs: Path, tmp_path: Path) -> None:
    scarce = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "50"}
    done = subprocess.run(
        [
            *score_command("--input", pairs, "--output", tmp_path / "ray", "--engine", "ray", "--workers", 1),
            *("--part-rows", "200", "--batch-rows", "1"),
        ],
        env=os.environ | scarce,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1, done.stderr
    assert "4 workers have died" in done.stderr
    assert "go on with --resume" in done.stderr


@contextmanager
def node(environment: dict[str, str], *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A node in a session of processes of its own, which all end with it, and no other's."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", "--num-cpus=1", *arguments]
    command += [f"--object-store-memory={OBJECT_STORE}", "--disable-usage-stats"]
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(30)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
