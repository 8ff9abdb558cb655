"""What a newcomer types: the way that `recsys` alone shows, and the next command after each."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from recsys.cli import main
from recsys.commands.next_steps import export_words
from serve.terminal import next_step

BUNDLE = Path(__file__).parent / "fixtures" / "bundles" / "dot-bias"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[list[str]]]:
    """The exit code, what is on stdout, and the words of the next commands on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    shown = [line.removeprefix("Next:") for line in err.splitlines() if line.startswith(("Next: ", "      "))]
    return int(stop.value.code or 0), out, [shlex.split(line) for line in shown]


def test_the_command_alone_shows_the_way_and_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    way = [line.split()[1] for line in shown.splitlines() if line.startswith("    recsys ")]
    assert way == ["train", "export", "recommend", "demo"]
    assert "  fold-in    Recommend to a new user" in shown


def test_a_description_leads_to_training_and_a_run_to_its_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lead_to_the_export(tmp_path, monkeypatch, capsys)


def lead_to_the_export(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Follow the way from a file to a run; returns the command that is shown then."""
    monkeypatch.chdir(folder)
    pairs = [(user, item) for user in range(1, 30) for item in range(1, 20) if (user + item) % 4]
    rows = [f"u {user},{item},{1 + (user * item) % 5}" for user, item in pairs]
    Path("my films.csv").write_text("\n".join(["who,item_id,rating", *rows]) + "\n")

    code, _, (train,) = run(capsys, "data", "describe", "my films.csv", "--user-column", "who")
    assert code == 0
    assert train[:4] == ["recsys", "train", "--data", "my films.csv"]
    assert train[4:] == ["--user-column", "who", "--output", "runs/mine"]
    code, _, (export,) = run(capsys, *train[1:], "--model", "dot", "--epochs", "1", "--device", "cpu")
    assert (code, export) == (0, ["recsys", "export", "runs/mine", "--explain", "--output", "artifacts/mine"])
    code, _, (again,) = run(capsys, "evaluate", "runs/mine")
    assert (code, again) == (0, export)
    Path("artifacts/mine").mkdir(parents=True)
    code, _, (verify,) = run(capsys, "evaluate", "runs/mine")
    assert (code, verify) == (0, ["recsys", "verify", "artifacts/mine", "--run", "runs/mine"])
    Path("artifacts/mine").rmdir()
    return export


@pytest.mark.slow
def test_an_export_leads_to_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export = lead_to_the_export(tmp_path, monkeypatch, capsys)
    code, _, (recommend, demo) = run(capsys, *export[1:])
    assert (code, demo) == (0, ["recsys", "demo", "artifacts/mine"])
    assert recommend[:4] == ["recsys", "recommend", "artifacts/mine", "--user-id"]
    code, out, others = run(capsys, *recommend[1:], "--json")
    assert (code, others) == (0, [])
    assert json.loads(out)["known"]
    code, _, (serve,) = run(capsys, "forget", "artifacts/mine", "--user-id", "u 1", "--output", "less")
    assert (code, serve) == (0, ["recsys", "serve", "less"])
    code, out, others = run(capsys, "verify", "artifacts/mine", "--run", "runs/mine", "--json")
    assert (code, others, json.loads(out)["passed"]) == (0, [], True)


def test_a_signature_leads_to_its_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, key = shutil.copytree(BUNDLE, tmp_path / "mine"), tmp_path / "key.pem"
    make = ["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key)]
    subprocess.run(make, check=True, capture_output=True)
    code, _, (public, verify) = run(capsys, "sign", str(bundle), "--private-key", str(key))
    assert code == 0
    subprocess.run(public, check=True, capture_output=True)
    code, _, (serve,) = run(capsys, *verify[1:])
    assert code == 0
    assert serve[3:] == ["--require-signature", "--public-key", str(tmp_path / "key.pub")]


def test_words_are_quoted_for_a_shell(capsys: pytest.CaptureFixture[str]) -> None:
    next_step(["recsys", "export", Path("-x"), "--output", Path("it's mine")], ["recsys", "--user-id", -5])
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert shlex.split(lines[0]) == ["Next:", "recsys", "export", "./-x", "--output", "it's mine"]
    assert lines[1] == "      recsys --user-id -5"
    next_step([Path("a\x1b[31m\nb")])
    assert capsys.readouterr().err == "Next: 'a\ufffd[31m\ufffdb'\n"


def test_a_run_is_exported_beside_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def bundle(run: str, *, overwrite: bool = False) -> str:
        return " ".join(map(str, export_words(Path(run), overwrite=overwrite)[5:]))

    (tmp_path / "runs" / "mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "runs" / "mine")
    assert bundle("runs/mine") == "artifacts/mine"
    assert bundle("/a/runs/mine") == "/a/artifacts/mine"
    assert bundle("mine") == "mine-bundle"
    assert bundle(".") == f"{tmp_path}/artifacts/mine"
    monkeypatch.chdir(tmp_path)
    Path("artifacts/mine").mkdir(parents=True)
    assert bundle("runs/mine", overwrite=True) == "artifacts/mine --overwrite"
    assert bundle("runs/mine") == "artifacts/mine-2", "never a command that would be refused"
    Path("artifacts/mine-2").touch()
    assert bundle("runs/mine") == "artifacts/mine-3"
