"""One contract for every kind of model, on ratings whose right answer is provable."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from recsys.data.interactions import Interactions
from recsys.errors import ConfigError, TrainingError
from recsys.models import KINDS
from recsys.training.checkpoint import Run, load_run
from recsys.training.evaluate_run import evaluate_run
from recsys.training.run_info import Iteration, PartInfo, RunInfo
from recsys.training.settings import new_settings
from recsys.training.train import Machine, Reporter, resume, train
from serve.errors import OutputError

Train = Callable[..., Run]
CPU = Machine("cpu", "off")


FITTED = sorted(kind.name for kind in KINDS.values() if kind.fit)
# Of each kind, so that a fit of the checkerboard takes no time.
QUICK = {"bayes": {"iterations": 40, "epochs": None}, "ease": {"epochs": None}, "ials": {"epochs": None}}


@pytest.fixture(params=sorted(KINDS.keys() - set(FITTED)))
def kind(request: pytest.FixtureRequest) -> str:
    """A kind that is trained by gradient."""
    return str(request.param)


@pytest.fixture(params=FITTED)
def fitted(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(KINDS))
def any_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def weights(run: Run) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in load_run(run.path).model().state_dict().items()}


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


def quickly(kind: str, **options: object) -> dict[str, object]:
    """Options of a quick run of a kind."""
    return ({"batch_size": None, **QUICK[kind]} if kind in QUICK else {}) | options


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


def test_bayes_finds_them_too(quick: Train) -> None:
    run = quick("bayes", **quickly("bayes"))
    assert run.info.metrics["rmse"] < 0.3
    result = evaluate_run(load_run(run.path), k=3, device="cpu")
    assert result["rmse"] == pytest.approx(run.info.metrics["rmse"], rel=1e-6)


def test_untrained_rows_hold_the_average_of_the_trained_ones(quick: Train, any_kind: str) -> None:
    """A kind that fits such rows from features leaves row 0 alone to the average."""
    run = load_run(quick(any_kind, **quickly(any_kind)).path)
    data, trained = run.interactions(), run.split().train
    for name, table in weights(run).items():
        index = {"user": data.user_index, "item": data.item_index}.get(name.split("_")[0])
        if index is None:
            continue
        rows = np.unique(index[trained])
        untrained = np.setdiff1d(np.arange(len(table)), rows)
        assert {0, len(table) - 1} <= set(untrained)  # the last user and item have no rating
        if KINDS[any_kind].fits_untrained_rows:
            untrained = untrained[:1]
        average = table[rows].astype(np.float64).mean(axis=0)
        # Their size, because the mean of a table may be 0.
        np.testing.assert_allclose(
            table[untrained],
            np.tile(average, (len(untrained), 1)),
            rtol=1e-6,
            atol=1e-6 * np.abs(table).max(),
        )


def test_a_seed_repeats_exactly_and_another_does_not(quick: Train, any_kind: str, tmp_path: Path) -> None:
    options = quickly(any_kind)
    first, again = (quick(any_kind, tmp_path / name, seed=1, **options) for name in "ab")
    assert same(weights(first), weights(again))
    assert first.info.files == again.info.files
    assert not same(weights(first), weights(quick(any_kind, tmp_path / "c", seed=2, **options)))


def test_a_fitted_part_that_was_interrupted_is_fitted_again(
    checkerboard: Interactions, tmp_path: Path, fitted: str
) -> None:
    """Whatever it had done: the run ends as an unbroken one, part by part."""
    others = {"bayes": "ease", "ease": "ials", "ials": "ease"}
    settings = new_settings([others[fitted], fitted], {"factors": 4} | {"iterations": 40})

    def stop(info: RunInfo, part: PartInfo, n_train: int) -> None:
        if part.kind == fitted:
            raise KeyboardInterrupt

    def stop_within(iteration: Iteration) -> None:
        if iteration.metrics:  # ease reports none
            raise KeyboardInterrupt

    whole = train(checkerboard, settings, tmp_path / "whole", machine=CPU)
    with pytest.raises(KeyboardInterrupt):
        train(checkerboard, settings, tmp_path / "run", machine=CPU, reporter=Reporter(on_part=stop))
    assert [part.iterations_done > 0 for part in load_run(tmp_path / "run").info.parts] == [True, False]
    if fitted != "ease":
        with pytest.raises(KeyboardInterrupt):
            resume(tmp_path / "run", machine=CPU, reporter=Reporter(on_iteration=stop_within))
    resumed = resume(tmp_path / "run", machine=CPU)
    assert resumed.info.files == whole.info.files
    assert sorted(path.name for path in resumed.path.iterdir()) == sorted([*resumed.info.files, "run.json"])


def test_a_fitted_run_is_resumed_to_itself(quick: Train, fitted: str) -> None:
    run = quick(fitted, **quickly(fitted))
    before = {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()}
    assert resume(run.path, machine=CPU).info.part.history == run.info.part.history
    assert {path.name: path.stat().st_mtime_ns for path in run.path.iterdir()} == before


@pytest.mark.parametrize("rating", [1.0, 0.1])
@pytest.mark.parametrize("implicit", [True, False])
def test_likes_and_equal_ratings_train_parts_that_rank(
    checkerboard: Interactions,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    implicit: bool,
    rating: float,
) -> None:
    likes = checkerboard.ratings == 5
    data = replace(
        checkerboard,
        user_index=checkerboard.user_index[likes],
        item_index=checkerboard.item_index[likes],
        ratings=np.full(likes.sum(), rating, np.float32),
        timestamps=None,
        implicit=implicit,
        name="likes",
    )
    with caplog.at_level(logging.WARNING):
        run = load_run(train(data, new_settings(None, {}), tmp_path / "run", machine=CPU).path)
    (line,) = caplog.messages
    why = "has no ratings" if implicit else f"has no rating but {rating:g}"
    left_out = "bayes, which predicts ratings, is left out"
    assert line == f"likes {why}: items are ranked, and no rating is predicted; {left_out}"
    assert run.info.data.implicit
    assert run.interactions().implicit
    assert (run.info.part.kind, run.info.rating_weight) == ("ease", 0)
    assert "rmse" not in evaluate_run(run, device="cpu")
    # Odd users like odd items, even ones even: every list begins with items of the user's own kind.
    scores = run.ranking_model().item_scorer()(torch.arange(1, 41))  # type: ignore[operator]
    best = scores[:, 1:].topk(5).indices + 1
    assert (best % 2 == torch.arange(1, 41)[:, None] % 2).all()
    assert resume(run.path, machine=CPU).info.parts == run.info.parts
    with pytest.raises(ConfigError, match="bayes predicts ratings, and likes has none to predict"):
        train(data, new_settings(["bayes", "ease"], {}), tmp_path / "other", machine=CPU)


def test_features_are_in_the_run(checkerboard: Interactions, tmp_path: Path) -> None:
    """A resumed part is fitted with them, like an uninterrupted one."""
    n_users, n_items = checkerboard.n_users, checkerboard.n_items
    data = replace(
        checkerboard,
        users=checkerboard.users.assign(
            age=np.where(np.arange(n_users) % 3, np.arange(n_users), np.nan),
            city=pd.Series([["Rome", "Oslo|Bonn", None][i % 3] for i in range(n_users)], dtype="str"),
        ),
        items=checkerboard.items.assign(price=np.arange(n_items) / 7),
    )
    settings = new_settings(["ease", "bayes"], {"iterations": 30})

    def stop(info: RunInfo, part: PartInfo, n_train: int) -> None:
        if part.kind == "bayes":
            raise KeyboardInterrupt

    whole = train(data, settings, tmp_path / "whole", machine=CPU)
    with pytest.raises(KeyboardInterrupt):
        train(data, settings, tmp_path / "run", machine=CPU, reporter=Reporter(on_part=stop))
    assert resume(tmp_path / "run", machine=CPU).info.files == whole.info.files
    run = load_run(tmp_path / "run")
    assert run.info.data.user_features == ["age", "city"]
    assert run.info.data.item_features == ["year", "price"]
    kept = run.interactions()
    pd.testing.assert_frame_equal(kept.users, data.users)
    pd.testing.assert_frame_equal(kept.items, data.items)
    plain = train(checkerboard, settings, tmp_path / "plain", machine=CPU)
    assert not same(weights(plain), weights(whole))


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


@pytest.mark.parametrize("precision", ["float32", "tf32"])
def test_tf32_is_allowed_while_training_only_where_it_is_asked_for(
    checkerboard: Interactions, tmp_path: Path, precision: str
) -> None:
    allowed: list[bool] = []
    reporter = Reporter(on_progress=lambda n: allowed.append(torch.backends.cuda.matmul.allow_tf32))
    settings = new_settings("mlp", {"epochs": 1, "precision": precision})
    train(checkerboard, settings, tmp_path / "run", machine=CPU, reporter=reporter)
    assert set(allowed) == {precision == "tf32"}
    assert not torch.backends.cuda.matmul.allow_tf32


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
