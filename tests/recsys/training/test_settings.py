"""Settings in layers: a config file, its parts, flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from recsys.cli import cli
from recsys.errors import ConfigError
from recsys.training.config_file import PRESETS, ConfigFile, parse_part, read_config, read_preset
from recsys.training.run_info import RunInfo, read_info
from recsys.training.settings import check_rating_weight, check_unchanged, new_settings

FILE = """
seed = 7
valid-fraction = 0.1
rating-weight = 0.5
iterations = 60

[[part]]
model = "bayes"

[[part]]
model = "ials"
weight = 0.5
factors = 8
iterations = 3
rating-weight = 0

[[part]]
model = "ease"
feature_weight = 2
"""


@pytest.fixture
def config(tmp_path: Path) -> ConfigFile:
    path = tmp_path / "recsys.toml"
    path.write_text(FILE)
    return read_config(path)


def test_a_part_has_its_own_settings_then_those_of_the_file_then_defaults(config: ConfigFile) -> None:
    settings = new_settings(config, {})
    bayes, ials, ease = settings.parts
    assert (settings.split.seed, settings.split.valid_fraction, settings.rating_weight) == (7, 0.1, 0.5)
    assert [(part.kind, part.weight) for part in settings.parts] == [("bayes", 1), ("ials", 0.5), ("ease", 1)]
    assert (bayes.config["iterations"], bayes.config["n_factors"]) == (60, 24)
    assert (ials.config["iterations"], ials.config["n_factors"]) == (3, 8)
    assert ials.config["rating_weight"] == 0, "of its ratings, not of a part in the lists"
    assert ease.config["feature_weight"] == 2


def test_a_flag_overrides_the_file_for_all_parts_that_have_it(config: ConfigFile) -> None:
    settings = new_settings(config, {"iterations": 40, "factors": 5, "rating_weight": 0.0, "seed": None})
    bayes, ials, ease = settings.parts
    assert [part.config["n_factors"] for part in settings.parts] == [5, 5, 5]
    assert (bayes.config["iterations"], ials.config["iterations"]) == (40, 40)
    assert "iterations" not in ease.config
    assert (settings.rating_weight, settings.split.seed) == (0, 7)
    with pytest.raises(ConfigError, match=r"bayes or ials or ease model has no --dropout"):
        new_settings(config, {"dropout": 0.1})
    # A split that a flag names replaces the file's, of which only the seed stays.
    split = new_settings(config, {"kind": "leave-last-out"}).split
    assert (split.kind, split.valid_fraction, split.seed) == ("leave-last-out", 0.2, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = ", "is not TOML"),
        ("part = 3", r"begin with \[\[part\]\]"),
        ("[[part]]\nweight = 1", "a \\[\\[part\\]\\] needs a model"),
        ("[[part]]\nmodel = 'tower'", "no model is called 'tower'"),
        ("[[part]]\nmodel = 'ease'\nweight = 0", "the weight must be a number above 0"),
        ("[[part]]\nmodel = 'ease'\nweight = true", "the weight must be a number above 0"),
        ("[[part]]\nmodel = 'bayes'\nweight = 1", "only parts that rank have a weight"),
        (
            "[[part]]\nmodel = 'ease'\nobjective = 'ratings'",
            "ease has no objective 'ratings'; it has: ranking",
        ),
        (
            "[[part]]\nmodel = 'ease'\nepochs = 3",
            "an ease part has no epochs; it has: factors, feature_weight",
        ),
        ("[[part]]\nmodel = 'ease'\nfactors = 'many'", "model 'ease': Expected `int`"),
        ("[[part]]\nmodel = 'dot'\nepochs = 'many'", "model 'dot': Expected `int`"),
        ("tempo = 3\n[[part]]\nmodel = 'ease'", "an ease model has no --tempo"),
        ("[[part]]\nmodel = 'bayes'\n[[part]]\nmodel = 'dot'", "bayes and dot both predict ratings"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        new_settings(read_config(tmp_path / "wrong.toml"), {})
    with pytest.raises(ConfigError, match="can't be read"):
        read_config(tmp_path / "missing.toml")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name: str) -> None:
    settings = new_settings(read_preset(name), {"valid_fraction": 0.2})
    assert settings.is_preset
    objectives = [part.objective for part in settings.parts]
    if settings.rating_weight:
        assert {"ratings", "ranking"} == set(objectives)


def test_presets_are_the_files_of_the_package() -> None:
    folder = Path(__file__).parents[3] / "recsys" / "presets"
    assert sorted(f"{name}.toml" for name in PRESETS) == sorted(path.name for path in folder.iterdir())
    with pytest.raises(ConfigError, match="no preset is called 'best'; there are: default"):
        read_preset("best")


def test_without_parts_the_default_preset_is_meant() -> None:
    assert new_settings(None, {}) == new_settings(read_preset("default"), {})
    assert new_settings(ConfigFile({"seed": 3}, []), {}).split.seed == 3
    assert not new_settings("ease", {}).is_preset


def test_a_rating_weight_needs_both_kinds_of_part() -> None:
    both = new_settings(["bayes", "ease"], {"rating_weight": 0.25})
    assert both.rating_weight == 0.25
    assert new_settings(["bayes", "ease"], {}).rating_weight == 0
    for kind in ("bayes", "ease"):
        with pytest.raises(ConfigError, match=f"here is only {kind}: leave --rating-weight out"):
            new_settings(kind, {"rating_weight": 0.25})
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="must be a number from 0 on"):
            check_rating_weight(weight, both.parts)


def test_without_ratings_a_preset_ranks_alone_and_a_part_that_was_asked_for_is_refused() -> None:
    settings = new_settings(None, {}).without_ratings("likes")
    assert ([part.kind for part in settings.parts], settings.rating_weight) == (["ease"], 0)
    ranking = new_settings(["ease", "ials"], {})
    assert ranking.without_ratings("likes") is ranking
    for models in (["bayes", "ease"], "dot", read_preset("ml-100k-ratings")):
        with pytest.raises(
            ConfigError, match=r"predicts ratings, and likes has none.*rank instead: ease, ials"
        ):
            new_settings(models, {}).without_ratings("likes")


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    """A small CSV: 30 users, 20 items; three of four pairs are rated."""
    path = tmp_path / "films.csv"
    pairs = [(user, item) for user in range(30) for item in range(20) if (user + item) % 4]
    lines = [f"{user},{100 + item},{1 + (user * item) % 5}" for user, item in pairs]
    path.write_text("\n".join(["user_id,item_id,rating", *lines]) + "\n")
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(cli, ["train", "--device", "cpu", *map(str, arguments)])


def test_the_command_reads_a_file_and_flags_override_it(
    tmp_path: Path, ratings: Path, config: ConfigFile
) -> None:
    path, output = tmp_path / "recsys.toml", tmp_path / "run"
    path.write_text(f"data = '{ratings}'\nduplicates = 'last'\n{FILE}")
    arguments = ["--config", path, "--iterations", 30, "--seed", 8, "--output", output]
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    info = read_info(output)
    assert (info.seed, info.split.valid_fraction, info.rating_weight) == (8, 0.1, 0.5)
    assert [part.config.get("iterations") for part in info.parts] == [30, 30, None]
    assert run(*arguments, "--resume").exit_code == 0, "the same line again"
    check_resumed(info, config)
    for more, message in (
        (["--preset", "default"], "use one of them"),
        (["--model", "ease"], "--model and the file both bring the parts"),
        (["--init-from", output], "--init-from and the file both bring the parts"),
    ):
        refused = run(*arguments, "--overwrite", *more)
        assert refused.exit_code == 2
        assert message in refused.output
    path.write_text("part-time = 3\n")
    refused = run("--config", path, "--output", tmp_path / "other")
    assert "no flag is called 'part-time'; there are: batch-norm, batch-size, " in str(refused.exception)
    path.write_text("seed = 'seven'\n")
    refused = run("--config", path, "--output", tmp_path / "other")
    assert refused.exit_code == 2
    assert "'seven' is not a decimal integer" in refused.output


def check_resumed(info: RunInfo, file: ConfigFile) -> None:
    """What the run has is accepted, and anything else is refused."""
    check_unchanged(file, {"seed": 8, "iterations": 30}, info)
    check_unchanged(None, {"rating_weight": 0.5, "objective": None}, info)
    for models, given, message in (
        (file, {"iterations": 30}, "seed 8, and 7 was asked for"),
        (None, {"rating_weight": 0.25}, "rating weight 0.5, and 0.25"),
        (["bayes", "ials:0.5"], {}, "model bayes and ials:0.5 and ease, and bayes and ials:0.5 was"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_unchanged(models, given, info)
    assert parse_part("ials:0.5").weight == 0.5
    likes = msgspec.structs.replace(info.data, implicit=True)
    ranks = new_settings(None, {}).without_ratings("likes")
    of_likes = msgspec.structs.replace(info, data=likes, parts=ranks.parts, split=ranks.split)
    check_unchanged(read_preset("default"), {}, of_likes)  # which had left bayes out


def test_fitted_parts_print_iterations(tmp_path: Path, ratings: Path) -> None:
    arguments = ["--model", "bayes", "--model", "ials", "--model", "ease", "--iterations", 40]
    done = run("--data", ratings, *arguments, "--output", tmp_path / "run")
    assert done.exit_code == 0, done.output
    bayes, ials, ease = (part.history for part in read_info(tmp_path / "run").parts)
    assert [iteration.number for iteration in bayes] == [*range(4, 41, 4)], "ten of its draws"
    assert [iteration.number for iteration in ials] == [*range(1, 41)]
    assert [iteration.number for iteration in ease] == [1]
    words = [" ".join(line.split()) for line in done.output.splitlines()]
    assert "iteration train RMSE seconds" in words
    assert "iteration objective seconds" in words
    assert "iteration seconds" in words
    assert "ratings/s" not in done.output
