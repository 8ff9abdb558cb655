"""Training by several real processes, as a launcher starts them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from held_training import PROGRAM, held
from patience import PATIENCE, wait_until
from ports import free_port

from recsys.cli import cli
from recsys.errors import ConfigError
from recsys.models import KINDS, DotConfig
from recsys.models.scoring import score_pairs
from recsys.models.tables import INIT_STD
from recsys.training.checkpoint import load_run
from recsys.training.distributed import Team, join_team
from recsys.training.gradient_part import check_steps
from recsys.training.run_info import TrainingConfig

SETTINGS = ("--epochs", "30", "--batch-size", "64", "--factors", "8", "--device", "cpu")


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CSV whose ratings follow from one factor a user and one an item, with noise: 100 users, 60 items."""
    rng = np.random.default_rng(7)
    taste, kind = rng.normal(size=100), rng.normal(size=60)
    scores = np.clip(np.round(3 + np.outer(taste, kind) + rng.normal(0, 0.3, (100, 60))), 1, 5)
    lines = [f"{u},{i},{scores[u, i]:.0f}" for u, i in np.argwhere(rng.random((100, 60)) < 0.6)]
    path = tmp_path_factory.mktemp("data") / "films.csv"
    path.write_text("\n".join(["user_id,item_id,rating", *lines]) + "\n")
    return path


def arguments(ratings: Path, output: Path, *more: str) -> list[str]:
    model = [] if "--model" in more else ["--model", "dot-bias"]
    settings = [*SETTINGS, *model, *more]
    return ["-m", "recsys", "train", "--data", str(ratings), "--output", str(output), *settings]


@contextmanager
def two_ranks(
    ratings: Path, output: Path, *more: str, hold_epoch: int = 1000
) -> Iterator[list[subprocess.Popen[str]]]:
    """Two processes with a launcher's variables, but no launcher that ends one with the other.

    After `hold_epoch` epochs they wait for the file `go_on` beside the run.
    """
    team = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", PROGRAM, *arguments(ratings, output, *more)[2:]]
    environment = held(hold_epoch, output.with_name("go_on")) | team
    ranks = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        yield ranks
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


@pytest.fixture(scope="module")
def two(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run by two processes under torchrun, and what was printed."""
    output = tmp_path_factory.mktemp("runs") / "two"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*launcher, *arguments(ratings, output)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    return output, done.stdout


@pytest.mark.slow
def test_two_processes_train_as_one_does(ratings: Path, two: tuple[Path, str], tmp_path: Path) -> None:
    path, printed = two
    one = tmp_path / "one"
    assert CliRunner().invoke(cli, arguments(ratings, one)[2:]).exit_code == 0
    first, second = load_run(one), load_run(path)
    # The same steps but for the order of sums; Adam's square roots carry that into the last digits.
    assert second.info.metrics["rmse"] == pytest.approx(first.info.metrics["rmse"], abs=1e-3)
    assert second.info.part.history[-1].metrics == pytest.approx(
        first.info.part.history[-1].metrics, rel=1e-2
    )
    state = first.model().state_dict()
    for name, tensor in second.model().state_dict().items():
        torch.testing.assert_close(tensor, state[name], atol=5e-3, rtol=0)
    assert printed.count("dot-bias on films") == 1, "only rank 0 prints"
    assert sorted(entry.name for entry in path.iterdir()) == sorted(entry.name for entry in one.iterdir())


@pytest.mark.slow
def test_a_killed_process_stops_the_team_and_the_run_resumes(
    ratings: Path, two: tuple[Path, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with two_ranks(ratings, output, hold_epoch=20) as (leader, other):
        wait_until(lambda: (output / "run.json").exists() or leader.poll() is not None)
        assert leader.poll() is None, leader.communicate()[1]
        other.kill()
        other.communicate()
        output.with_name("go_on").touch()
        _, errors = leader.communicate(timeout=PATIENCE)
        assert leader.returncode == 1
    assert "another process of this training has stopped" in errors
    assert "Traceback" not in errors
    assert "third_party" not in errors
    stopped_at = load_run(output).info.part.iterations_done
    assert 1 <= stopped_at < 30

    with two_ranks(ratings, output, "--resume") as ranks:
        said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0], said
    assert said[1][0] == ""
    resumed, unbroken = load_run(output), load_run(two[0])
    assert resumed.info.part.iterations_done == 30
    state = unbroken.model().state_dict()
    for name, tensor in resumed.model().state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("more", [("--model", "mlp"), ("--objective", "ranking")])
def test_sparse_updates_by_two_processes(ratings: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    more = (*more, "--sparse-updates", "on", "--epochs", "3")
    one, output = tmp_path / "one", tmp_path / "two"
    subprocess.run(
        [sys.executable, *arguments(ratings, one, *more)], capture_output=True, timeout=PATIENCE, check=True
    )
    with two_ranks(ratings, output, *more) as ranks:
        said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0], said
    assert "; sparse updates" in said[0][0]
    state = load_run(one).model().state_dict()
    for name, tensor in load_run(output).model().state_dict().items():
        torch.testing.assert_close(tensor, state[name], atol=5e-3, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "more", [["--model", "mlp", "--batch-norm", "--dropout", "0.1"], ["--model", "dot", "--shard-tables"]]
)
def test_what_is_measured_is_what_is_written(ratings: Path, tmp_path: Path, more: list[str]) -> None:
    """Batch norm's averages follow a rank's own rows, and each rank measures a share.

    The ratings are a thousand times as large, so that the models are trained in another unit.
    """
    output = tmp_path / "run"
    more = [*more, "--epochs", "2"]
    large = tmp_path / "large.csv"
    large.write_text(ratings.read_text().replace("\n", "000\n").replace("rating000", "rating"))
    with two_ranks(large, output, *more) as ranks:
        said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0], said
    run = load_run(output)
    assert run.info.part.rating_unit == 1000
    data, valid = run.interactions(), run.split().valid
    scores = score_pairs(
        run.model(), *(index[valid].astype(np.int64) for index in (data.user_index, data.item_index))
    )
    errors = scores.astype(np.float64) - data.ratings[valid]
    assert run.info.metrics["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-6)


ORDER_OF_TWO = """
import sys
import torch
from recsys.training import gradient_part
from recsys.training.batches import RatingTensors, epoch_seed, shuffled_batches, step_size
from recsys.training.distributed import Team

def size_of_two(n, steps, step):
    first, middle, end = Team(size=2).bounds(n)
    return step_size(middle - first, steps, step) + step_size(end - middle, steps, step)

def in_the_order_of_two(data, steps, seed):
    shares = [RatingTensors(*Team(rank, 2).share(data)) for rank in range(2)]
    orders = [shuffled_batches(share, steps, epoch_seed(seed, rank)) for rank, share in enumerate(shares)]
    for both in zip(*orders, strict=True):
        yield RatingTensors(*(torch.cat(columns) for columns in zip(*both, strict=True)))

gradient_part.shuffled_batches, gradient_part.step_size = in_the_order_of_two, size_of_two
from recsys.cli import main
main()
"""
"""One process whose steps have the ratings of two with sharded tables."""
SHARDED = ("--shard-tables", "--epochs", "3", "--batch-size", "32", "--factors", "5")


@pytest.fixture(scope="module")
def sharded(ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of sharded tables by two processes under torchrun, and what was printed."""
    output = tmp_path_factory.mktemp("runs") / "sharded"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, *arguments(ratings, output, *SHARDED)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return output, done.stdout


def test_sharded_tables_train_as_one_process_does(
    ratings: Path, sharded: tuple[Path, str], tmp_path: Path
) -> None:
    path, printed = sharded
    assert printed.count("; sharded tables") == 1, "only rank 0 prints"
    one = tmp_path / "one"
    more = [*SHARDED[1:], "--sparse-updates", "on"]
    command = [sys.executable, "-c", ORDER_OF_TWO, *arguments(ratings, one, *more)[2:]]
    subprocess.run(command, capture_output=True, timeout=PATIENCE, check=True)
    assert sorted(file.name for file in path.iterdir()) == sorted(file.name for file in one.iterdir())
    first, second = load_run(one), load_run(path)
    for name in ("users.parquet", "items.parquet", "interactions.parquet"):
        assert first.info.files[name] == second.info.files[name]
    for ours, theirs in zip(second.info.part.history, first.info.part.history, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-5)
    model = second.part.trained_model()
    states = [run.part.trained_model().state_dict() for run in (first, second)]
    states += [run.part.optimizer_state(model) for run in (first, second)]
    for expected, found in (states[:2], states[2:]):
        for name, tensor in found.items():
            # The same steps but for the order of sums.
            torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-2, msg=name)
    moved = second.part.trained_model().user_factors.std() / INIT_STD
    assert moved > 5, "it learned nothing"
    bundle = tmp_path / "bundle"
    exported = CliRunner().invoke(cli, ["export", str(path), "--output", str(bundle)])
    assert exported.exit_code == 0, exported.output


@pytest.mark.slow
def test_sharded_tables_resume_to_the_same_bytes(
    ratings: Path, sharded: tuple[Path, str], tmp_path: Path
) -> None:
    output = tmp_path / "run"
    with two_ranks(ratings, output, *SHARDED, hold_epoch=2) as (leader, other):
        wait_until(lambda: (output / "run.json").exists() or leader.poll() is not None)
        assert leader.poll() is None, leader.communicate()[1]
        wait_until(lambda: load_run(output).info.part.iterations_done == 2 or leader.poll() is not None)
        other.kill()
        other.communicate()
        output.with_name("go_on").touch()
        _, errors = leader.communicate(timeout=PATIENCE)
        assert leader.returncode == 1
    assert "another process of this training has stopped" in errors
    assert "Traceback" not in errors
    assert load_run(output).info.part.iterations_done == 2
    with two_ranks(ratings, output, *SHARDED, "--resume") as ranks:
        said = [rank.communicate(timeout=PATIENCE) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0], said
    for part in ("weights", "optimizer"):
        name = f"{part}-1-0003.safetensors"
        assert (output / name).read_bytes() == (sharded[0] / name).read_bytes()


@pytest.mark.slow
def test_a_wrong_file_of_ratings_stops_sharded_training(ratings: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(ratings.read_text() + "1,2,many\n")
    with two_ranks(wrong, tmp_path / "run", *SHARDED) as ranks:
        said = [rank.communicate(timeout=PATIENCE)[1] for rank in ranks]
        assert [rank.returncode for rank in ranks] == [2, 1], said
    assert "many" in said[0]
    assert "another process of this training has stopped" in said[1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model", "mlp"], "trains dot or dot-bias to predict ratings, not mlp"),
        (["--model", "dot-bias", "--model", "ease"], "not ease"),
        (["--objective", "ranking"], "not dot-bias to rank"),
        (["--sparse-updates", "off"], "leave out --sparse-updates off"),
        ([], "start it as `torchrun --nproc-per-node 2 -m recsys train …`"),
    ],
)
def test_what_tables_are_not_sharded_for(ratings: Path, tmp_path: Path, more: list[str], said: str) -> None:
    output = tmp_path / "run"
    done = CliRunner().invoke(cli, arguments(ratings, output, "--shard-tables", *more)[2:])
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)
    assert not output.exists()


def test_shares_cover_every_row_once() -> None:
    rows = torch.arange(11)
    parts = [Team(rank, 4).share((rows,))[0] for rank in range(4)]
    assert torch.equal(torch.cat(parts), rows)
    assert max(map(len, parts)) - min(map(len, parts)) == 1


def test_steps_that_are_too_small_for_the_team_are_refused() -> None:
    config = TrainingConfig(batch_size=6, weight_decay=0.0)
    check_steps(600, config, KINDS["dot"], DotConfig(), Team(0, 3))
    with pytest.raises(ConfigError, match=r"a step of 6 ratings is too small for 4 processes"):
        check_steps(600, config, KINDS["dot"], DotConfig(), Team(0, 4))


def test_wrong_variables_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MASTER_ADDR": "127.0.0.1", "RANK": "first", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"RANK=first is not a number"), join_team("cpu"):
        pass
