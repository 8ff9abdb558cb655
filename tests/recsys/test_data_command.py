"""`recsys data` on the command line; exit codes and errors are tested in a new process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from recsys.cli import cli


def recsys(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    script = "import sys; from recsys.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={"COLUMNS": "120"} | environment
    )


def test_describe_shows_every_view() -> None:
    done = recsys("data", "describe", "ml-latest-small")
    assert done.returncode == 0, done.stderr
    for part in (
        "100,836 from 0.5 to 5, 3.502 on average",
        "9,742, of them 9,724 rated",
        "1.70%",
        "2000-07-30 18:45:03",
        "Grumpier Old Men (1995)",
        "The most active users x the most rated items",
        "Shawshank",
        "26,818 ████████████████████████████████████████ 26.6%",
        "no commercial use without permission",
    ):
        assert part in done.stdout


def test_describe_as_json(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("who,item_id,rating\nann,1,5\nann,2,4\nbob,1,3\nann,1,4\n")
    arguments = ["data", "describe", str(path), "--user-column", "who", "--json", "--duplicates"]
    done = CliRunner().invoke(cli, [*arguments, "last"], catch_exceptions=False)
    views = json.loads(done.stdout)
    assert views["summary"]["n_ratings"] == 3
    assert views["summary"]["density"] == 0.75
    assert views["summary"]["time_range"] is None
    assert views["histogram"] == [{"rating": 3.0, "count": 1}, {"rating": 4.0, "count": 2}]
    assert views["first_rows"][0] == {"user_id": "ann", "item_id": 2, "rating": 4.0}
    assert views["crosstab"] == {
        "user_ids": ["ann", "bob"],
        "item_ids": [1, 2],
        "ratings": [[4.0, 4.0], [3.0, None]],
    }
    mean = json.loads(CliRunner().invoke(cli, [*arguments, "mean"], catch_exceptions=False).stdout)
    assert mean["crosstab"]["ratings"][0] == [4.5, 4.0]


def test_titles_that_look_like_markup_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n[red]7,1,3\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,[REC] (2007),Horror\n")
    done = CliRunner().invoke(cli, ["data", "describe", str(tmp_path)], catch_exceptions=False)
    assert "[REC] (2007)" in done.stdout
    assert "[red]7" in done.stdout


def test_what_could_steer_a_terminal_does_not_reach_it(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n\x1b[31mann,1,3\nbob,1,4\n")
    (tmp_path / "movies.csv").write_text(
        "movieId,title,genres\n1,\x1b]0;title\x07Alien (1979),\x1b[1mHorror\n"
    )
    done = recsys("data", "describe", str(tmp_path))
    assert "\ufffd[31mann" in done.stdout
    assert "\x1b" not in done.stdout
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n\x1b[31mann,1,3\n\x1b[31mann,1,3\n")
    done = recsys("data", "describe", str(tmp_path))
    assert "\\x1b[31mann, 1, 3" in done.stderr


def test_refused_data_is_exit_code_2_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user_id,item_id,rating\n1,2,good\n")
    done = recsys("data", "describe", str(path))
    assert done.returncode == 2
    assert "line 2: rating 'good'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_copy_that_is_not_published_is_said_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating\n1,1,3\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,x,y\n")
    done = recsys("data", "describe", "ml-20m", "--from-file", str(tmp_path), "--json")
    assert done.returncode == 0
    assert "has 1 ratings; ml-20m has 20,000,263" in done.stderr
    assert json.loads(done.stdout)["summary"]["name"] == "ml-20m"


def test_download_of_the_embedded_set_shows_its_terms() -> None:
    done = CliRunner().invoke(cli, ["data", "download", "ml-latest-small"], catch_exceptions=False)
    assert "978,202 bytes" in done.stdout
    assert "redistribution under the same terms" in done.stdout


def test_a_failed_download_is_exit_code_1(tmp_path: Path) -> None:
    # A proxy that is not there: no request leaves this machine.
    done = recsys("data", "download", "ml-1m", RECSYS_CACHE=str(tmp_path), HTTPS_PROXY="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "could not be downloaded" in done.stderr
    assert "--from-file ml-1m.zip" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_name_is_wrong_usage() -> None:
    assert recsys("data", "download", "ml-2m").returncode == 2
    done = recsys("data", "describe", "ml-2m")
    assert done.returncode == 2
    assert "neither a known data set" in done.stderr
