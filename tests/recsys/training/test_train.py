"""One contract for every kind of model, on ratings whose right answer is provable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError, TrainingError
from recsys.models import KINDS
from recsys.training.checkpoint import Run, load_run
from recsys.training.evaluate_run import evaluate_run
from recsys.training.run_info import Iteration
from recsys.training.settings import new_settings
from recsys.training.train import Machine, Reporter, resume, train
from serve.errors import OutputError

Train = Callable[..., Run]
CPU = Machine("cpu", "off")


@pytest.fixture(params=sorted(kind.name for kind in KINDS.values() if kind.fit is None))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def weights(run: Run) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load_run(run.path).model().state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def test_held_out_ratings_of_a_checkerboard_are_found(quick: Train, kind: str) -> None:
    run = quick(kind, epochs=30, learning_rate=0.02, weight_decay=0.0)
    # 5 or 1, nothing between: 1.0 is what half of the way from the mean (RMSE 2) would give.
    assert run.info.metrics["rmse"] < 0.3
    result = evaluate_run(load_run(run.path), k=3, device="cpu")
    assert result["rmse"] == pytest.approx(run.info.metrics["rmse"], rel=1e-6)
    assert result["mae"] == pytest.approx(run.info.metrics["mae"], rel=1e-6)
    assert [epoch.number for epoch in run.info.part.history] == list(range(1, 31))
    # No baseline can tell odd from even.
    assert result["baselines"]["bias_only"]["rmse"] > 1.9


def test_untrained_rows_hold_the_average_of_the_trained_ones(quick: Train, kind: str) -> None:
    run = load_run(quick(kind).path)
    data, trained = run.interactions(), run.split().train
    for name, table in weights(run).items():
        index = {"user": data.user_index, "item": data.item_index}.get(name.split("_")[0])
        if index is None:
            continue
        rows = np.unique(index[trained])
        untrained = np.setdiff1d(np.arange(len(table)), rows)
        assert {0, len(table) - 1} <= set(untrained)  # the last user and item have no rating
        average = table[rows].astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(table[untrained], np.tile(average, (len(untrained), 1)), rtol=1e-6)


def test_a_seed_repeats_exactly_and_another_does_not(quick: Train, kind: str, tmp_path: Path) -> None:
    first, again = (quick(kind, tmp_path / name, seed=1) for name in "ab")
    assert same(weights(first), weights(again))
    assert first.info.files == again.info.files
    assert not same(weights(first), weights(quick(kind, tmp_path / "c", seed=2)))


@pytest.mark.parametrize("stop_after", [1, 2])
def test_a_resumed_run_ends_as_an_unbroken_one(
    quick: Train, kind: str, tmp_path: Path, stop_after: int
) -> None:
    extra = {"dropout": 0.2, "batch_norm": True} if kind == "mlp" else {}
    unbroken = quick(kind, tmp_path / "unbroken", **extra)

    def stop(epoch: Iteration) -> None:
        if epoch.number == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(kind, tmp_path / "broken", reporter=Reporter(on_iteration=stop), **extra)
    broken = load_run(tmp_path / "broken")
    assert broken.info.part.iterations_done == stop_after
    torch.manual_seed(99)  # the global generator's state must not matter
    resumed = resume(tmp_path / "broken", machine=CPU)
    assert same(weights(unbroken), weights(resumed))
    for one, other in zip(unbroken.info.part.history, resumed.info.part.history, strict=True):
        assert one.metrics == other.metrics
    assert resumed.info.files == unbroken.info.files
    assert sorted(path.name for path in resumed.path.iterdir()) == sorted([*resumed.info.files, "run.json"])


def test_tensors_are_read_aligned(quick: Train) -> None:
    """Kernels may round differently on unaligned tensors that are larger than these."""
    run = load_run(quick().path)
    model = run.model()
    tensors = [*model.parameters(), *run.part.optimizer_state(model).values()]
    assert {tensor.data_ptr() % 64 for tensor in tensors if tensor.numel() > 1} == {0}


def test_interrupted_within_an_epoch_the_last_whole_one_stays(quick: Train, tmp_path: Path) -> None:
    done = 0

    def stop(n_ratings: int) -> None:
        nonlocal done
        done += n_ratings
        if done > 1500:  # of 960 an epoch: in the second
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(output=tmp_path / "run", reporter=Reporter(on_progress=stop))
    assert load_run(tmp_path / "run").info.part.iterations_done == 1


def test_a_finished_run_is_resumed_to_itself(quick: Train) -> None:
    run = quick()
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    assert resume(run.path, machine=CPU).info.part.history == run.info.part.history
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


def test_divergence_is_an_error_that_leaves_what_was_there(quick: Train, tmp_path: Path) -> None:
    before = weights(quick("dot"))
    message = r"diverged in epoch 1.*nothing was written.*learning rate \(1e\+30"
    with pytest.raises(TrainingError, match=message):
        quick("dot", overwrite=True, learning_rate=1e30)
    assert same(weights(load_run(tmp_path / "run")), before)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing half-written beside it


def test_an_old_run_is_replaced_only_on_request_and_foreign_folders_never(
    quick: Train, tmp_path: Path
) -> None:
    run = quick()
    with pytest.raises(ConfigError, match="--resume, replace it with --overwrite"):
        quick()
    assert quick(overwrite=True, epochs=2).info.part.iterations_done == 2
    assert load_run(run.path).info.part.iterations_done == 2
    foreign = tmp_path / "home"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    with pytest.raises(OutputError, match=r"holds no run\.json, so it isn't ours to overwrite"):
        quick(output=foreign, overwrite=True)
    assert (foreign / "letter.txt").read_text() == "dear"
    link = tmp_path / "link"
    link.symlink_to(run.path)
    with pytest.raises(OutputError, match="is a link"):
        quick(output=link, overwrite=True)


def test_the_settled_settings_are_kept(quick: Train, checkerboard: Interactions) -> None:
    run = load_run(quick().path)
    assert run.part.config.y_range == (0.5, 5.5)
    assert run.info.part.training.weight_decay == 0.1
    assert run.info.seed == run.info.split.seed == 42
    data = run.interactions()
    assert data.users.equals(checkerboard.users)
    assert data.items.equals(checkerboard.items)
    for name in ("user_index", "item_index", "ratings", "timestamps"):
        np.testing.assert_array_equal(getattr(data, name), getattr(checkerboard, name))
    assert (run.info.data.n_ratings, run.info.data.n_held_out) == (1200, 240)


def test_data_without_times_and_half_precision(checkerboard: Interactions, tmp_path: Path) -> None:
    settings = new_settings("mlp", {"epochs": 20, "learning_rate": 0.02, "precision": "bf16"})
    run = train(replace(checkerboard, timestamps=None), settings, tmp_path / "run", machine=CPU)
    assert load_run(run.path).interactions().timestamps is None
    assert run.info.metrics["rmse"] < 0.5
    assert weights(run)["layers.0.weight"].dtype == np.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_an_error(checkerboard: Interactions, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"device 'cuda'.*--device cpu"):
        train(checkerboard, new_settings(None, {}), tmp_path / "run", machine=Machine("cuda"))
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use")
def test_a_gpu_learns_the_same(checkerboard: Interactions, tmp_path: Path, kind: str) -> None:
    settings = new_settings(
        kind, {"epochs": 30, "batch_size": 32, "learning_rate": 0.02, "weight_decay": 0.0}
    )
    run = train(checkerboard, settings, tmp_path / "run", machine=Machine("cuda", "on"))
    assert run.info.metrics["rmse"] < 0.3
    assert run.info.device == "cuda"
