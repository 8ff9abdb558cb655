"""Starting from tables that were trained elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner, Result
from fixture_bundles import FIXTURES
from made_up import interactions

from export.model.pretrained import read_pretrained
from export.write.bundle import export_run
from recsys.cli import cli
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.training.checkpoint import load_run
from recsys.training.pretrained import Pretrained, match_items
from recsys.training.settings import new_settings
from recsys.training.train import Machine, train

N_ITEMS, N_FACTORS = 120, 4


def site(seed: int, n_users: int, share: float, items: slice, first_id: int = 1) -> Interactions:
    """Ratings of a site whose films are some of the world's 120: what a film is like, it is everywhere."""
    world = np.random.default_rng(0).normal(size=(N_ITEMS, N_FACTORS)).astype(np.float32)
    rng = np.random.default_rng(seed)
    numbers = np.arange(N_ITEMS)[items]
    tastes = rng.normal(size=(n_users, N_FACTORS))
    scores = np.clip(3 + tastes @ world[numbers].T + rng.normal(0, 0.2, (n_users, len(numbers))), 1, 5)
    users, rated = np.nonzero(rng.random(scores.shape) < share)
    films = pd.DataFrame({"item_id": first_id + numbers, "title": [f"Film {n}" for n in numbers]})
    ids = {"users": np.arange(n_users), "items": films}
    return interactions(users + 1, rated + 1, scores[users, rated], name=f"site {seed}", **ids)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large old site's run: 400 users, films 0 to 99."""
    path = tmp_path_factory.mktemp("old") / "run"
    settings = new_settings(
        "dot-bias", {"factors": N_FACTORS, "epochs": 12, "weight_decay": 0.01, "learning_rate": 0.03}
    )
    train(site(1, 400, 0.3, slice(0, 100)), settings, path, machine=Machine("cpu", "off"))
    return path


def begin(source: Pretrained | None, data: Interactions, output: Path, **asked: object) -> float:
    """RMSE of a new site, by default after an epoch."""
    kind, settings = ("dot-bias", {"factors": N_FACTORS}) if source is None else source.settings(None, {})
    start = match_items(source, data, "title") if source else None
    options = {"epochs": 1, "batch_size": 32, "weight_decay": 0.01}
    asked = settings | options | asked
    run = train(data, new_settings(kind, asked), output, start=start, machine=Machine("cpu", "off"))
    return run.info.metrics["rmse"]


def test_a_new_site_starts_with_what_is_known_of_its_films(elsewhere: Path, tmp_path: Path) -> None:
    # 60 users, other ids, 70 films that the old site knows, too; about 20 ratings for each of either.
    new = site(2, 60, 0.3, slice(30, 100), first_id=5001)
    source = read_pretrained(elsewhere)
    options = {"epochs": 4, "learning_rate": 0.03}
    cold = begin(None, new, tmp_path / "cold", **options)
    warm = begin(source, new, tmp_path / "warm", **options)
    # Users alone are quicker learned than users and films: measured 1.06 and 0.55.
    assert warm < cold - 0.3


def test_matched_rows_are_the_sources_and_others_the_average(elsewhere: Path, tmp_path: Path) -> None:
    new = site(3, 20, 0.4, slice(80, 120), first_id=5001)
    rated = new.item_index
    keep = ~np.isin(rated, [1, 2, 40])  # unrated: films 80 and 81, known elsewhere, and 119, which is not
    new = replace(new, user_index=new.user_index[keep], item_index=rated[keep], ratings=new.ratings[keep])
    source = read_pretrained(elsewhere)
    start = match_items(source, new, "title")
    assert (start.summary.n_matched, start.summary.n_new, start.summary.n_left) == (20, 20, 80)
    # A learning rate of nearly nothing shows where training began.
    begin(source, new, tmp_path / "still", learning_rate=1e-12)
    state = load_run(tmp_path / "still").model().state_dict()
    for name in ("item_factors", "item_biases"):
        there, here = torch.from_numpy(np.array(source.state[name])), state[name]
        torch.testing.assert_close(here[1:21], there[81:101], atol=1e-6, rtol=0)
        torch.testing.assert_close(here[21:40], there[:1].expand(19, -1), atol=1e-6, rtol=0)
    for name in ("user_factors", "user_biases"):
        there = torch.from_numpy(np.array(source.state[name]))
        torch.testing.assert_close(state[name], there[:1].expand_as(state[name]), atol=1e-6, rtol=0)

    # Trained in earnest: films that nobody rates here stay as they came, even when the run is resumed.
    begin(source, new, tmp_path / "run", epochs=3, weight_decay=0.5)
    state = load_run(tmp_path / "run").model().state_dict()
    came = torch.from_numpy(np.array(source.state["item_factors"]))
    assert torch.equal(state["item_factors"][1:3], came[81:83])
    assert not torch.equal(state["item_factors"][3], came[83])
    assert torch.equal(state["item_factors"][40], state["item_factors"][0])


@pytest.mark.slow
def test_a_run_and_its_bundle_are_the_same_start(elsewhere: Path, tmp_path: Path) -> None:
    export_run(elsewhere, tmp_path / "bundle", top_k=5)
    run, bundle = read_pretrained(elsewhere), read_pretrained(tmp_path / "bundle")
    assert (run.kind, run.items["title"].tolist()) == (bundle.kind, bundle.items["title"].tolist())
    assert run.items["item_id"].tolist() == bundle.items["item_id"].tolist()
    assert new_settings(*run.settings(None, {})) == new_settings(*bundle.settings(None, {}))
    for name, values in run.state.items():
        np.testing.assert_array_equal(values, bundle.state[name])


def test_a_network_takes_its_layers_along(tmp_path: Path) -> None:
    source = read_pretrained(FIXTURES / "mlp")
    data = site(4, 15, 0.5, slice(0, 40), first_id=1001)
    kind, settings = source.settings("mlp", {})
    start = match_items(source, data, "id")
    settings |= {"epochs": 1, "learning_rate": 1e-12, "batch_size": 64}
    run = train(
        data, new_settings(kind, settings), tmp_path / "run", start=start, machine=Machine("cpu", "off")
    )
    state = run.model().state_dict()
    for name in ("layers.0.weight", "layers.3.weight", "layers.6.bias"):
        np.testing.assert_allclose(state[name].numpy(), source.state[name], atol=1e-6)


def test_what_does_not_fit_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    source = read_pretrained(elsewhere)
    with pytest.raises(ConfigError, match=r"is a dot-bias model, not a mlp"):
        source.settings("mlp", {})
    with pytest.raises(ConfigError, match=r"has factors 4, and 9 was asked for"):
        source.settings(None, {"factors": 9})
    with pytest.raises(ConfigError, match=r"none of the 10 items of site 5 is in .* by id"):
        match_items(source, site(5, 9, 0.9, slice(0, 10), first_id=70_000), "id")
    text = site(6, 9, 0.9, slice(0, 10))
    text.items["item_id"] = text.items["item_id"].astype(str)
    with pytest.raises(ConfigError, match=r"item ids like 1, 2, 3, …, site 6 like '1', '2', '3', …"):
        match_items(source, text, "id")
    untitled = site(7, 9, 0.9, slice(0, 10))
    del untitled.items["title"]
    with pytest.raises(ConfigError, match=r"site 7 has no titles"):
        match_items(source, untitled, "title")
    stars = site(5, 9, 0.9, slice(0, 10))
    stars = replace(stars, ratings=stars.ratings * 20)
    with pytest.raises(ConfigError, match=r"ratings from 20 to 100, and .* scores from 0.5 to 5.5"):
        match_items(source, stars, "id")
    with pytest.raises(ConfigError, match=r"is neither a run nor a bundle"):
        read_pretrained(tmp_path)


def test_a_title_that_several_items_share_matches_none(elsewhere: Path) -> None:
    data = site(8, 9, 0.9, slice(0, 10))
    data.items.loc[1, "title"] = "Film 0"
    start = match_items(read_pretrained(elsewhere), data, "title")
    assert start.rows.tolist() == [0, 0, 0, 3, 4, 5, 6, 7, 8, 9, 10]


def test_ids_that_mean_other_films_are_doubted(elsewhere: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = read_pretrained(elsewhere)
    data = site(8, 9, 0.9, slice(0, 10))
    start = match_items(source, data, "id")
    assert "10 found there: 1 (Film 0), 2 (Film 1), 3 (Film 2), …" in start.description
    data.items.loc[9, "title"] = "Film the Ninth"  # one of ten is but spelt anew
    match_items(source, data, "id")
    assert not caplog.records
    data.items["title"] = [*(f"Movie {n}" for n in range(8)), "Film 8", None]
    match_items(source, data, "id")
    assert "8 of 9 items that match by id have another title in" in caplog.text
    assert "1 is 'Film 0' there and 'Movie 0' here; 2 is" in caplog.text
    assert caplog.text.count(" there and ") == 3
    caplog.clear()
    data.items.loc[0, "title"] = "Film 5"
    assert "2 found there: Film 5, Film 8\n" in match_items(source, data, "title").description
    assert not caplog.records


def recsys(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["train", "--device", "cpu", *map(str, arguments)])


def test_the_command_says_what_matched(elsewhere: Path, tmp_path: Path) -> None:
    data = site(9, 30, 0.5, slice(90, 110), first_id=5001)
    path = tmp_path / "new.csv"
    users, items = data.users["user_id"], data.items["item_id"]
    rows = zip(users[data.user_index - 1], items[data.item_index - 1], data.ratings, strict=True)
    path.write_text("user_id,item_id,rating\n" + "".join(f"{u},{i - 5000},{r}\n" for u, i, r in rows))
    options = ("--data", path, "--output", tmp_path / "run", "--epochs", 1, "--batch-size", 32)
    result = recsys(*options, "--init-from", elsewhere)
    assert result.exit_code == 0, result.output
    said = " ".join(result.output.split())
    assert "start: 10 of 20 items have rows in" in said
    assert "10 found there: 91 (Film 90), 92 (Film 91), 93 (Film 92), …" in said
    assert "10 not there, start as its average item: 101, 102, 103, …" in said
    assert "90 there and not here, left out: Film 0, Film 1, Film 2, …" in said
    started = json.loads((tmp_path / "run" / "run.json").read_text())["started_from"]
    assert started == {
        "source": str(elsewhere), "match_by": "id", "n_matched": 10, "n_new": 10, "n_left": 90
    }  # fmt: skip
    again = recsys("--output", tmp_path / "run", "--resume", "--init-from", elsewhere)
    assert again.exit_code == 2
    assert "leave out --init-from" in again.output
    alone = recsys("--output", tmp_path / "other", "--match-items", "title")
    assert alone.exit_code == 2
    assert "--match-items goes with --init-from" in alone.output
