"""The search for parts and settings, and the config file that it leaves."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from made_up import interactions

from recsys.cli import main
from recsys.commands.tune import as_toml, with_parts
from recsys.data.interactions import Interactions
from recsys.errors import ConfigError
from recsys.training.config_file import read_config
from recsys.training.session import Machine
from recsys.training.settings import new_settings
from recsys.training.tune import Trial, Tuned, tune

CPU = Machine("cpu", "off")


@pytest.fixture(scope="module")
def tastes() -> Interactions:
    """Users rate 70 % of the items of their taste, and few others."""
    rng = np.random.default_rng(0)
    same = np.arange(60)[:, None] % 3 == np.arange(30) % 3
    user, item = np.nonzero(rng.random(same.shape) < np.where(same, 0.7, 0.05))
    return interactions(1 + user, 1 + item, np.where(same[user, item], 5, 2))


def test_every_part_is_tried_and_the_best_weights_are_kept(tastes: Interactions) -> None:
    trials: list[Trial] = []
    found = tune(tastes, 1e-9, machine=CPU, on_trial=trials.append)
    assert [trial.name for trial in trials[:3]] == ["bayes", "ease", "ials"]
    weights = [trial for trial in trials if trial.name == "weights"]
    assert found.ndcg == max(trial.ndcg for trial in weights)
    assert found.ndcg >= max(trial.ndcg for trial in trials[1:3])
    assert all(max(t.settings["ease"], t.settings["ials"]) == 1 for t in weights)
    assert found.parts[0] == {"model": "bayes"}


def test_without_ratings_only_parts_that_rank_are_tried(tastes: Interactions) -> None:
    found = tune(tastes, 1e-9, ratings=False, machine=CPU)
    assert {part["model"] for part in found.parts} <= {"ease", "ials"}
    assert found.rating_weight == 0


def test_the_config_file_gives_the_parts_that_were_found(tmp_path: Path) -> None:
    parts = [{"model": "bayes"}, {"model": "ials", "weight": 0.5, "regularization": 7.5}]
    (tmp_path / "found.toml").write_text(as_toml(Tuned(parts, 0.25, 0.5)))
    settings = new_settings(read_config(tmp_path / "found.toml"), {})
    assert settings.rating_weight == 0.25
    assert [(part.kind, part.weight) for part in settings.parts] == [("bayes", 1.0), ("ials", 0.5)]
    assert settings.parts[1].config["regularization"] == 7.5


def test_the_command_writes_the_file_and_replaces_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{u},{i},{rng.integers(1, 6)}" for u in range(20) for i in range(12) if rng.random() < 0.6]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item_id,rating", *rows]) + "\n")
    arguments = ["tune", "--data", str(tmp_path / "ratings.csv"), "--minutes", "0.001"]
    arguments += ["--output", str(tmp_path / "found.toml")]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert not done.value.code
    assert capsys.readouterr().err.startswith(f"Next: recsys train --config {tmp_path / 'found.toml'}")
    assert read_config(tmp_path / "found.toml").parts
    with pytest.raises(SystemExit) as refused:
        main(arguments)
    assert refused.value.code
    assert "--overwrite" in capsys.readouterr().err


OWN = """# Mine.
data = "ratings.csv"
rating-weight = 0.5

[[part]]
model = "ease"

[export]        # for the shop
allow = [
  "a",
]

[[part]]
model = "bayes"

[serve]
port = 8080
"""


def test_a_new_search_replaces_the_parts_and_nothing_else() -> None:
    found = as_toml(Tuned([{"model": "bayes"}, {"model": "ials", "weight": 0.5}], 0.25, 0.5))
    made = with_parts(OWN, found, Path("recsys.toml"))
    settings = tomllib.loads(made)
    assert settings["part"] == [{"model": "bayes"}, {"model": "ials", "weight": 0.5}]
    assert settings["rating-weight"] == 0.25
    assert settings["export"] == {"allow": ["a"]}
    assert (settings["data"], settings["serve"]) == ("ratings.csv", {"port": 8080})
    assert "# Mine." in made
    assert "# for the shop" in made
    assert with_parts(made, found, Path("recsys.toml")) == made
    alone = as_toml(Tuned([{"model": "ease"}], 0.0, 0.5))
    assert "rating-weight" not in with_parts(made, alone, Path("recsys.toml"))
    assert with_parts("", found, Path("recsys.toml")) == found
    with pytest.raises(ConfigError, match="choose another --output"):
        with_parts('x = """\n[[part]]\n"""\n', found, Path("recsys.toml"))
