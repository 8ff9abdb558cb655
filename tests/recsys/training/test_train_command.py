from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import fields
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from held_training import PROGRAM, held
from patience import PATIENCE, wait_until

from recsys.cli import cli
from recsys.commands.train import train
from recsys.data.splits import SplitRecipe
from recsys.errors import CheckpointError, ConfigError
from recsys.models import KINDS
from recsys.training.checkpoint import load_run
from recsys.training.run_folder import RunFolder
from recsys.training.run_info import TrainingConfig, is_run, read_info


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CSV: 30 users, 20 items, all pairs."""
    path = tmp_path_factory.mktemp("data") / "films.csv"
    pairs = [(user, item) for user in range(30) for item in range(20)]
    lines = [f"{user},{100 + item},{1 + (user * item) % 5}" for user, item in pairs]
    path.write_text("\n".join(["user_id,item_id,rating", *lines]) + "\n")
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["train", "--device", "cpu", *map(str, arguments)])


def weights(path: Path) -> bytes:
    return (path / load_run(path).info.part.weights).read_bytes()


def test_the_help_names_kinds_and_their_defaults() -> None:
    help_of = {option.name: getattr(option, "help", "") for option in train.params}
    assert all(kind in help_of["model"] for kind in KINDS)
    assert "[default: dot 0.0, dot-bias 0.1, mlp 0.1]" in help_of["weight_decay"]


def test_every_setting_of_kinds_that_are_trained_by_gradient_has_an_option() -> None:
    """Those of fitted kinds are set in a file."""
    options = {option.name for option in train.params}
    settings = {field.name for kind in KINDS.values() if not kind.fit for field in fields(kind.config)}
    settings |= {field.name for config in (TrainingConfig, SplitRecipe) for field in fields(config)}
    assert settings - options == {"n_factors", "n_user_factors", "n_item_factors"}  # all three are --factors


def test_training_from_a_file_prints_a_table_and_leaves_a_run(ratings: Path, tmp_path: Path) -> None:
    options = ["--model", "mlp", "--hidden-layers", "8,4", "--factors", 6, "--epochs", 2, "--y-range", 0, 6]
    options += ["--batch-norm", "--dropout", 0.1, "--seed", 7, "--valid-fraction", 0.3]
    result = run("--data", ratings, *options, "--output", tmp_path / "run")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("mlp on films: 30 users, 20 items, 420 ratings to train on, 180 held out")
    assert " ".join(lines[1].split()) == "epoch train MSE valid RMSE valid MAE seconds ratings/s"
    assert [line.split()[0] for line in lines[2:4]] == ["1", "2"]
    info = load_run(tmp_path / "run").info
    tables = {"n_user_factors": 6, "n_item_factors": 6, "hidden_layers": [8, 4]}
    assert info.part.config == tables | {"batch_norm": True, "dropout": 0.1, "y_range": [0.0, 6.0]}
    assert (info.part.training.epochs, info.seed, info.split.seed) == (2, 7, 7)
    assert f"RMSE {info.metrics['rmse']:.4f}" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "dot", "--dropout", "0.1"], "a dot model has no --dropout"),
        (
            ["--batch-norm", "--hidden-layers", "5"],
            "a bayes or ease model has no --batch-norm, --hidden-layers",
        ),
        (["--split", "leave-last-out", "--valid-fraction", "0.1"], "has no valid-fraction"),
        (["--fold", "1", "--valid-fraction", "0.1"], "has no valid-fraction"),
        (["--fold", "1", "--split", "random"], "a fold goes with kind 'fold' only"),
        (["--valid-fraction", "1.5"], "1.5"),
        (["--model", "dot", "--epochs", "0"], "epochs is 0"),
        (["--model", "dot", "--learning-rate", "0"], "learning rate is 0"),
        (["--model", "dot", "--weight-decay", "-1"], "weight decay is -1"),
        (["--model", "dot-bias", "--y-range", "5", "1"], "y-range 5.0 1.0"),
        (["--model", "dot", "--factors", "0"], "factors is 0"),
        (["--model", "ease", "--rating-weight", "0.5"], "and here is only ease"),
        (["--model", "dot", "--rating-weight", "0.5"], "and here is only dot"),
        (["--rating-weight", "-1"], "rating weight is -1.0: it must be a number from 0 on"),
        (["--split", "valid-data"], "'valid-data' without a held-out file"),
        (["--model", "dot", "--model", "mlp"], "dot and mlp both predict ratings"),
        (["--model", "ials", "--model", "ials:0.5"], "ials ranks in two parts"),
        (["--model", "mlp", "--model", "ease", "--rating-weight", "0.5"], "can't order lists beside"),
    ],
)
def test_wrong_settings_are_refused(ratings: Path, tmp_path: Path, options: list[str], message: str) -> None:
    result = run("--data", ratings, "--output", tmp_path / "run", *options)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_batch_norm_of_one_rating_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.csv"
    options = ["--data", path, "--model", "mlp", "--output", tmp_path / "run", "--epochs", 1, "--batch-norm"]
    path.write_text("user_id,item_id,rating\n1,1,3\n2,2,4\n3,1,5\n4,1,2\n")  # 3 to train on
    for batch_size in (1, 2):  # by twos, one is left
        result = run(*options, "--batch-size", batch_size)
        assert isinstance(result.exception, ConfigError)
        assert "batch norm needs two: raise the batch size, or leave out" in str(result.exception)
    assert run(*options, "--batch-size", 3).exit_code == 0


@pytest.mark.parametrize(
    "options", ["--hidden-layers a,b", "--model tower", "--model bayes:0.5", "--resume --overwrite"]
)
def test_usage_errors(ratings: Path, tmp_path: Path, options: str) -> None:
    assert run("--data", ratings, "--output", tmp_path / "run", *options.split()).exit_code == 2


def test_a_file_with_another_delimiter(ratings: Path, tmp_path: Path) -> None:
    path = tmp_path / "films.csv"
    path.write_text(ratings.read_text().replace(",", ";"))
    options = ["--model", "dot", "--epochs", 1, "--output", tmp_path / "run"]
    result = run("--data", path, "--delimiter", ";", *options)
    assert result.exit_code == 0, result.output


def test_a_resumed_run_keeps_its_settings(ratings: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    started = ["--data", ratings, "--model", "dot-bias", "--output", path, "--epochs", 2]
    started += ["--y-range", 0, 6, "--factors", 5]
    assert run(*started, "--resume").exit_code == 0  # nothing there yet: it starts
    before = weights(path)
    assert run("--output", path, "--resume").exit_code == 0
    assert run(*started, "--resume").exit_code == 0  # the same line again
    assert weights(path) == before
    for option, value, message in (
        ("--epochs", 3, "epochs 2, and 3"),
        ("--factors", 6, "n factors 5, and 6"),
        ("--y-range", (0, 5), r"y range [0.0, 6.0], and [0.0, 5.0]"),
        ("--model", "mlp", "model dot-bias, and mlp"),
        ("--seed", 1, "seed 42, and 1"),
        ("--fold", 2, "fold None, and 2"),
    ):
        values = value if isinstance(value, tuple) else (value,)
        result = run("--output", path, "--resume", option, *values)
        assert isinstance(result.exception, ConfigError), option
        assert message in str(result.exception)
    result = run("--output", path, "--resume", "--item-key", "id")
    assert result.exit_code == 2
    assert "leave out --item-key" in result.output
    other = tmp_path / "other.csv"
    other.write_text(ratings.read_text() + "99,100,3\n")
    result = run("--output", path, "--resume", "--data", other)
    assert "Leave out --data" in str(result.exception)
    assert weights(path) == before
    (path / "run.json").write_text("{")
    assert isinstance(run("--output", path, "--resume").exception, CheckpointError)


def test_only_one_training_writes_a_run(ratings: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    options = ("--data", ratings, "--model", "dot", "--output", path, "--epochs", 1)
    left = tmp_path / ".run.partial"
    left.mkdir()
    (left / "users.parquet").write_text("of a killed run")
    (left / "folder").mkdir()
    (left / "link").symlink_to(tmp_path)
    with RunFolder.create(path, overwrite=False):
        for more in ([], ["--resume"], ["--overwrite"]):
            result = run(*options, *more)
            assert isinstance(result.exception, ConfigError)
            assert f"another training writes {path}" in str(result.exception)
    assert not list(tmp_path.iterdir())
    assert run(*options).exit_code == 0
    before = weights(path)
    # After its first epoch, a training writes in the run's own place.
    for begin in (RunFolder, partial(RunFolder.create, overwrite=True)):
        with begin(path):
            for more in (["--output", path, "--resume"], [*options, "--overwrite"]):
                assert f"another training writes {path}" in str(run(*more).exception)
    assert weights(path) == before
    assert run(*options, "--overwrite").exit_code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
def test_a_closed_stdout_does_not_end_the_training(ratings: Path, tmp_path: Path) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "recsys", "train", "--data", str(ratings), "--epochs", "2"]
    command += ["--model", "dot", "--output", str(tmp_path / "run")]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), "the next command to type"
    assert load_run(tmp_path / "run").info.part.iterations_done == 2


EPOCHS, HELD_EPOCH = 40, 30


def start(path: Path) -> subprocess.Popen[str]:
    """Train in a new process, or resume; it ends only after the file `go_on` is there beside the run."""
    command = [sys.executable, "-c", PROGRAM, "train", "--device", "cpu", "--output", str(path)]
    settings = ["--model", "dot-bias", "--epochs", str(EPOCHS), "--factors", "4", "--batch-size", "2000"]
    command += ["--resume"] if path.exists() else settings
    environment = held(HELD_EPOCH, path.with_name("go_on"))
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )


def wait_for_epochs(path: Path, process: subprocess.Popen[str], n: int) -> None:
    def has_them() -> bool:
        assert process.poll() is None, process.communicate()
        return is_run(path) and read_info(path).part.iterations_done >= n

    try:
        wait_until(has_them)
    except BaseException:
        process.kill()
        raise


def last_words(process: subprocess.Popen[str]) -> str:
    """Wait for the end, and return what was printed on stderr."""
    try:
        return process.communicate(timeout=PATIENCE)[1]
    except BaseException:
        process.kill()
        process.communicate()
        raise


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unbroken") / "run"
    path.with_name("go_on").touch()
    errors = last_words(process := start(path))
    assert process.returncode == 0, errors
    return path


@pytest.mark.slow
def test_killed_runs_are_whole_and_end_the_same(unbroken: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    for n in (1, 15):
        process = start(path)
        wait_for_epochs(path, process, n)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        epochs_done = load_run(path).info.part.iterations_done  # every checksum is right
        assert n <= epochs_done <= HELD_EPOCH
        load_run(path).model()
    path.with_name("go_on").touch()
    process = start(path)
    errors = last_words(process)
    assert process.returncode == 0, errors
    assert weights(path) == weights(unbroken)


@pytest.mark.parametrize("has_reader", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_ctrl_c_leaves_the_last_epoch_and_says_how_to_go_on(tmp_path: Path, has_reader: bool) -> None:
    path = tmp_path / "run"
    with start(path) as process:
        assert process.stderr
        wait_for_epochs(path, process, 3)
        if not has_reader:
            process.stderr.close()
        process.send_signal(signal.SIGINT)
        if has_reader:
            errors = last_words(process)
            assert f"recsys train --output {path} --resume" in errors
            assert "Traceback" not in errors
        assert process.wait(PATIENCE) == 130
    assert 3 <= load_run(path).info.part.iterations_done <= HELD_EPOCH
    assert [item.name for item in tmp_path.iterdir()] == ["run"]
