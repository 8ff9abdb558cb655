"""A path of the wrong kind is wrong usage at every command: exit code 2, and what is there instead."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_runs
from click.testing import CliRunner

from recsys.cli import cli

BUNDLE = tiny_runs.FIXTURES / "dot"
TAKE_BUNDLES = {
    "recommend": ["--user-id", "1"],
    "score": ["--input", "{file}", "--output", "{new}"],
    "similar": ["--item-id", "1"],
    "fold-in": ["--rate", "1=5"],
    "profiles": [],
    "serve": ["--port", "0"],
    "demo": ["--port", "0"],
    "inspect": [],
    "report": ["--output", "{new}"],
    "evaluate": [],
    "verify": ["--run", "{run}"],
    "add-items": ["--ratings", "{file}", "--output", "{new}"],
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run, a folder of data, an empty folder, a file, and a path that is free."""
    root = tmp_path_factory.mktemp("paths")
    paths = {name: root / name for name in ("run", "data", "empty", "new")} | {
        "file": root / "data" / "r.csv"
    }
    tiny_runs.make_run(paths["run"], "dot")
    paths["data"].mkdir()
    paths["empty"].mkdir()
    paths["file"].write_text("user_id,item_id,rating\n1,1,5\n")
    return paths


def refusal(arguments: list[str]) -> str:
    """The message of a command that must end with exit code 2."""
    error = CliRunner().invoke(cli, arguments).exception
    assert getattr(error, "exit_code", None) == 2, repr(error)
    return str(error)


@pytest.mark.parametrize("command", TAKE_BUNDLES)
def test_where_a_bundle_is_expected(command: str, paths: dict[str, Path]) -> None:
    options = [option.format(**paths) for option in TAKE_BUNDLES[command]]
    for kind in ("data", "empty", "file") if command == "evaluate" else ("run", "data", "empty", "file"):
        said = refusal([command, str(paths[kind]), *options])
        assert str(paths[kind]) in said
        assert "is a run" in said if kind == "run" else "bundle" in said
    assert not paths["new"].exists()


@pytest.mark.parametrize("kind", ["bundle", "data", "empty", "file"])
def test_where_a_run_is_expected(kind: str, paths: dict[str, Path]) -> None:
    path = str({**paths, "bundle": BUNDLE}[kind])
    for arguments in (
        ["export", path, "--output", str(paths["new"])],
        ["verify", str(BUNDLE), "--run", path],
    ):
        said = refusal(arguments)
        assert path in said
        assert "not a run" in said
        assert ("is a bundle" in said) == (kind == "bundle")
    assert not paths["new"].exists()
