"""`recsys.toml` in the working directory: what it sets, what overrides it, what is refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from recsys.cli import cli, main
from recsys.errors import ConfigError
from recsys.project_file import MAX_BYTES, read_toml
from recsys.training.run_info import read_info

BUNDLE = Path(__file__).parents[1] / "fixtures" / "bundles" / "dot-bias"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with ratings of 30 users and 20 items."""
    pairs = [(user, item) for user in range(30) for item in range(20) if (user + item) % 4]
    lines = [f"{user},{100 + item},{1 + (user * item) % 5}" for user, item in pairs]
    (tmp_path / "films.csv").write_text("\n".join(["who,item_id,rating", *lines]) + "\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECSYS_CONFIG", raising=False)
    return tmp_path


def write(text: str, path: str = "recsys.toml") -> None:
    Path(path).write_text(text)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def test_a_table_sets_flags_and_the_command_line_overrides_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("[recommend]\ntop_k = 3\njson = true\n[fold-in]\nrate = ['1003=5', '1020=1']\n")
    done = run("recommend", BUNDLE, "--user-id", 10)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["items"]) == 3
    assert done.stderr == "recsys.toml: --top-k 3 --json (flags override it)\n"
    assert len(json.loads(run("recommend", BUNDLE, "--user-id", 10, "-k", 2).stdout)["items"]) == 2
    assert run("fold-in", BUNDLE).exit_code == 0, "a list for a flag that is repeated"
    assert "Usage" in run("recommend", "--help").stdout
    monkeypatch.setenv("RECSYS_CONFIG", "")
    assert run("recommend", BUNDLE, "--user-id", 10, "-k", 1).stderr == ""
    write("[recommend]\ntop-k = 4\n", "other.toml")
    monkeypatch.setenv("RECSYS_CONFIG", "other.toml")
    assert "other.toml: --top-k 4" in run("recommend", BUNDLE, "--user-id", 10).stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[recomend]\n", "no command is called 'recomend'; did you mean 'recommend'?"),
        ("[recommend]\ntopk = 3\n", "[recommend]: no flag is called 'topk'; did you mean 'top-k'?"),
        ("[recommend]\nbundle = 'x'\n", "no flag is called 'bundle'"),
        ("recommend = 3\n", "its settings are a table: [recommend]"),
        ("[[recommend]]\n", "its settings are a table: [recommend]"),
        ("[recommend]\njson = 'yes'\n", "[recommend] json = 'yes': write true or false"),
        ("[recommend]\ntop-k = true\n", "[recommend] top-k is true: write a number or a text"),
        ("[recommend]\ntop-k = 3\nk = 4\n", "[recommend]: --top-k is set twice, here as k: keep one of them"),
        ("recommend.top-k = 0x" + "f" * 5000 + "\n", "is not TOML"),
        ("[recommend]\ntop-k = [3]\n", "[recommend] top-k is a list"),
        ("[recommend]\ndeny = [[1]]\n", "[recommend] deny is a list"),
        ("[recommend]\ntop-k = 2026-11-29\n", "[recommend] top-k is a date"),
        ("[data.describ]\n", "[data]: no command is called 'describ'; did you mean 'describe'?"),
        ("[recommend\n", "is not TOML"),
        ("recommend.top-k = " + "9" * 5000 + "\n", "is not TOML"),
        ("x = " + "[" * 5000 + "\n", "nested too deeply"),
        ("a." * 5000 + "a = 1\n", "nested too deeply"),
        ("x = 'a' # b\n" + "'a.b'." * 101 + "a = 1\n", "nested too deeply"),
        ("#" * MAX_BYTES + "\n", "has more than 65,536 bytes"),
    ],
)
def test_what_is_refused(folder: Path, text: str, message: str) -> None:
    write(text)
    command = (
        ["data", "describe", "films.csv"] if "describ" in text else ["recommend", BUNDLE, "--user-id", 10]
    )
    refused = run(*command)
    assert isinstance(refused.exception, ConfigError)
    assert str(refused.exception).startswith("recsys.toml")
    assert message in str(refused.exception)


def test_what_is_no_readable_file_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refusal() -> str:
        with pytest.raises(SystemExit) as stop:
            main(["recommend", str(BUNDLE), "--user-id", "10"])
        assert stop.value.code == 2
        return capsys.readouterr().err

    (folder / "recsys.toml").write_bytes(b"\xff\xfe[\x00")
    assert "Error: recsys.toml is not TOML: 'utf-8' codec" in refusal()
    (folder / "recsys.toml").unlink()
    (folder / "recsys.toml").symlink_to("nowhere")
    assert "Error: recsys.toml can't be read: No such file" in refusal()
    (folder / "recsys.toml").unlink()
    os.mkfifo(folder / "recsys.toml")  # reading it would wait for ever
    assert "Error: recsys.toml can't be read: it is not a regular file" in refusal()
    (folder / "recsys.toml").unlink()
    (folder / "recsys.toml").mkdir()
    assert "Error: recsys.toml can't be read: Is a directory" in refusal()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[recommend]\ntop-k = 0\n", "Invalid value for '-k' / '--top-k': 0 is not in the range x>=1"),
        ("[recommend]\ntop-k = 1.5\n", "'1.5' is not a decimal integer"),
        ("[recommend]\ndevice = 'gpu'\n", "'gpu' is not one of 'auto', 'cpu', 'cuda'"),
        ("[recommend]\nyears = 'old'\n", "'old' is no range of years"),
    ],
)
def test_a_value_of_the_wrong_type_is_the_command_lines_error_and_names_the_file(
    folder: Path, text: str, message: str
) -> None:
    write(text)
    refused = run("recommend", BUNDLE, "--user-id", 10)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert f"(recsys.toml: {text.split()[1]})." in refused.stderr
    option, value = text.split()[1], text.split("= ")[1].strip().strip("'")
    Path("recsys.toml").unlink()
    assert message in run("recommend", BUNDLE, "--user-id", 10, f"--{option}", value).stderr


def test_dots_in_comments_and_texts_are_no_depth(folder: Path) -> None:
    dots = "." * 200
    texts = [f'"{dots}"', f"'{dots}'", f'"""\n{dots}\n\\"""{dots}"""', f"'''\n{dots}\n'''"]
    write(f"# {dots}\n[recommend]\ntop-k = 3 # {dots}\ndeny = [" + ", ".join(texts) + "]\n")
    assert [len(text.strip()) for text in read_toml(Path("recsys.toml"))["recommend"]["deny"]] == [
        *(200, 200, 404, 200)
    ]


def test_the_error_of_a_file_that_the_variable_names(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write("[recommend\n", "bad.toml")
    for named, said in (("gone.toml", "No such file"), (".", "Is a directory"), ("bad.toml", "not TOML")):
        monkeypatch.setenv("RECSYS_CONFIG", named)
        for command in (["recommend", BUNDLE, "--user-id", 10], ["train", "--output", "run"]):
            refused = str(run(*command).exception)
            assert refused.startswith(f"RECSYS_CONFIG: {named} ")
            assert said in refused


def test_what_does_not_apply_to_this_way_of_calling_is_left_out(folder: Path) -> None:
    write("user_id,item_id\n10,1001\n", "users.csv")
    write("[recommend]\nunknown = 'null'\nexplain = true\naddress = 'a:1'\nmax-bad-rows = 3\n")
    one = run("recommend", BUNDLE, "--user-id", 10, "--json")
    assert "Left out: --unknown null is for many users" in one.stderr
    assert "explain" in str(one.exception), "it applies, and this bundle has no such graph"
    many = run("recommend", BUNDLE, "--input", "users.csv", "--output", "out", "--work-folder", "w")
    assert many.exit_code == 2, "on the command line it is an error"
    many = run("recommend", BUNDLE, "--input", "users.csv", "--output", "out")
    assert many.exit_code == 0, many.output
    left_out = [line for line in many.stderr.splitlines() if line.startswith("Left out")]
    assert [line.split()[2] for line in left_out] == ["--explain", "--max-bad-rows", "--address"]
    write("[recommend]\nunknown = 'null'\n")
    assert run("recommend", BUNDLE, "--user-id", 10).exit_code == 0
    assert run("recommend", BUNDLE, "--user-id", 10, "--unknown", "null").exit_code == 2
    assert run("recommend", BUNDLE, "--input", "users.csv", "--output", "x", "--explain").exit_code == 2


def test_one_of_several_ways_on_the_command_line_replaces_that_of_the_file(folder: Path) -> None:
    write("user_id\n10\n", "users.csv")
    ways = {"input": "'users.csv'", "all-users": "true", "user-id": "10"}
    for name, value in ways.items():
        write(f"[recommend]\n{name} = {value}\noutput = '{name}'\n")
        done = run("recommend", BUNDLE, "--user-id", 20, "--json")
        assert json.loads(done.stdout)["user_id"] == 20
        done = run("recommend", BUNDLE, "--all-users", "--json")
        assert (done.exit_code, json.loads(done.stdout)["rows_out"]) == (0, 30)
    write("[recommend]\ninput = 'users.csv'\nall-users = true\n")
    assert "Take one of" in run("recommend", BUNDLE).stderr
    write("")
    asked = json.loads(run("profiles", BUNDLE, "--json").stdout)["questions"][0]["item_id"]
    write("[similar]\nitem = 'Movie 3, The (1953)'\n[profiles]\nprofile = 2\njson = true\n")
    assert json.loads(run("similar", BUNDLE, "--item-id", 1004, "--json").stdout)["item_id"] == 1004
    nothing = run("profiles", BUNDLE, "--answer", f"{asked}=not seen")
    assert json.loads(nothing.stdout)["profile"] is None
    assert json.loads(run("profiles", BUNDLE).stdout)["profile"] == 2


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_a_host_of_the_file_that_others_reach_is_warned_of(folder: Path, command: str) -> None:
    write(f"[{command}]\nhost = '192.0.2.1'\n")  # of no machine
    done = run(command, BUNDLE)
    assert done.exit_code == 2
    assert "Warning: 192.0.2.1 is reached from elsewhere" in done.stderr


TRAIN = """
rating-weight = 0.5
seed = 7

[train]
data = "films.csv"
user-column = "who"
valid-fraction = 0.1
output = "run"
device = "cpu"

[[part]]
model = "bayes"
iterations = 30

[[part]]
model = "ease"

[export]
top-k = 5
"""


def test_training_takes_parts_and_flags_from_one_file(folder: Path) -> None:
    write(TRAIN)
    done = run("train", "--seed", 8)
    assert done.exit_code == 0, done.output
    said = done.stderr.splitlines()[0]
    assert said.startswith("recsys.toml: --data films.csv --user-column who")
    assert "--output run --valid-fraction 0.1 --device cpu; parts bayes, ease (flags" in said
    assert "--seed" not in said
    info = read_info(Path("run"))
    assert (info.seed, info.split.valid_fraction, info.rating_weight) == (8, 0.1, 0.5)
    assert [part.kind for part in info.parts] == ["bayes", "ease"]
    assert info.parts[0].config["iterations"] == 30
    write(TRAIN.replace("[export]", "[exprt]"))
    assert "did you mean 'export'?" in str(run("train").exception)
    write(TRAIN.replace("[train]", "[train]\nseed = 3"))
    assert "seed at the top and in [train]: keep one" in str(run("train").exception)
    write(TRAIN.replace("seed = 7", "seeds = 7"))
    assert "no flag is called 'seeds'; did you mean 'seed'?" in str(run("train").exception)
    write(TRAIN.replace("seed = 7", "batch-size = 1\nbatch_size = 2"))
    assert "recsys.toml: batch_size is set twice: keep one" in str(run("train").exception)
    write(TRAIN.replace("seed = 7", "seed = 7.5"))
    assert "'7.5' is not a decimal integer (recsys.toml: seed)." in run("train").stderr
    write(TRAIN.replace("rating-weight = 0.5", "rating-weight = 0.25"))
    resumed = run("train", "--resume")
    assert resumed.exit_code == 0, "a run keeps its settings, whatever the file says by now"
    assert read_info(Path("run")).rating_weight == 0.5
    write(TRAIN.replace("[train]", "[train]\ninit-from = 'run'"))
    assert run("train", "--resume").exit_code == 0, "it has started already"
    write(TRAIN.replace("[train]", "[train]\nresume = true"))
    done = run("train", "--overwrite", "--model", "ease")
    assert done.exit_code == 0, done.output
    assert [part.kind for part in read_info(Path("run")).parts] == ["ease"]


def test_a_flag_that_brings_the_parts_replaces_those_of_the_file(folder: Path) -> None:
    write(TRAIN)
    done = run("train", "--model", "ease", "--output", "one")
    assert done.exit_code == 0, done.output
    assert "parts" not in done.stderr
    assert "rating-weight" not in done.stderr
    info = read_info(Path("one"))
    assert [part.kind for part in info.parts] == ["ease"]
    assert (info.seed, info.split.valid_fraction) == (7, 0.1)
    write("iterations = 30\n" + TRAIN)
    done = run("train", "--preset", "ml-100k-ratings", "--output", "two")
    assert done.exit_code == 0, done.output
    assert [part.kind for part in read_info(Path("two")).parts] == ["bayes"]
    write("[train]\nmodel = ['ease', 'ials:0.5']\n", "other.toml")
    done = run(
        "train", "--config", "other.toml", "--data", "films.csv", "--user-column", "who", "--output", "three"
    )
    assert done.exit_code == 0, done.output
    info = read_info(Path("three"))
    assert ([part.kind for part in info.parts], info.seed) == (["ease", "ials"], 42), (
        "of the named file alone"
    )
    write("[train]\nmodel = 'ease'\npreset = 'default'\n", "other.toml")
    refused = run("train", "--config", "other.toml", "--output", "four")
    assert "both bring the parts" in refused.stderr


def test_the_next_command_has_what_the_file_sets_for_this_one_alone(folder: Path) -> None:
    write("[data.describe]\nuser-column = 'who'\n")
    done = run("data", "describe", "films.csv")
    assert "--user-column who" in done.stderr.splitlines()[-1]


def test_a_file_that_begins_with_the_mark_of_utf_8(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf[serve]\r\nport = 1\r\n")
    assert read_toml(tmp_path / "a.toml") == {"serve": {"port": 1}}
