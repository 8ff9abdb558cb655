"""The command as a whole: help for every command and flag, one line and an exit code for every failure."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import command_reference
import pytest

from recsys import cli
from recsys.cli import COMMANDS, EXTRAS
from recsys.commands.train import _widths
from recsys.errors import ConfigError
from recsys.training.config_file import parse_part
from serve.commands.profiles import _parse_answer

ALL = dict(command_reference.commands())


def recsys(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from recsys.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_flag_has_help(name) -> None:
    command = ALL[name]
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts}"


def test_numbers_in_options_are_decimal_and_finite() -> None:
    n = 0
    for command in ALL.values():
        for parameter in command.params:
            for kind in getattr(parameter.type, "types", [parameter.type]):
                if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
                    n += 1
                    for text in ("0_1", "1_0", "0x1", "\u0661", "nan", "inf", "1e999", ""):
                        with pytest.raises(click.BadParameter):
                            kind.convert(text, parameter, None)
    assert n > 40
    with pytest.raises(click.BadParameter):
        _widths(click.Context(ALL["recsys train"]), ALL["recsys train"].params[0], "1_0")
    for text in ("nan", "1_0", "\u0661"):
        with pytest.raises(ConfigError):
            parse_part(f"ease:{text}")
        with pytest.raises(ValueError, match="not a finite decimal"):
            _parse_answer(text)


def test_the_reference_is_up_to_date() -> None:
    # In a process of its own: a command remembers the help option of its first context.
    code = "import command_reference; print(command_reference.reference(), end='')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    expected = done.stdout
    assert command_reference.PATH.read_text(encoding="utf-8") == expected, (
        "run `python tests/command_reference.py`"
    )


def test_help_lists_every_command_and_imports_none_of_them() -> None:
    code = (
        "import sys; from recsys.cli import cli; cli.main(['--help'], standalone_mode=False);"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'pandas', 'numpy', 'pyarrow', 'rich'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, entry in COMMANDS.items():
        assert name in done.stdout
        assert entry.help in done.stdout.replace("\n", " ") or entry.help.split(",")[0][:30] in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_own_help_imports_nothing_heavy(name) -> None:
    code = (
        f"import sys; from recsys.cli import cli; cli.main([{name!r}, '--help'], standalone_mode=False);"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'pandas', 'ray', 'gradio', 'fastapi'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_wrong_usage_exits_with_2_and_names_the_nearest_command() -> None:
    done = recsys("recomend")
    assert done.returncode == 2
    assert "Did you mean 'recommend'?" in done.stderr


def test_a_failure_is_one_line_and_a_traceback_only_with_debug(tmp_path) -> None:
    (tmp_path / "manifest.json").write_text("damaged")
    arguments = ["inspect", str(tmp_path)]
    done = recsys(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert "Traceback" in recsys(*arguments, "--debug").stderr


BROKEN = """
import click
from recsys import cli

@click.command()
def broken():
    {body}

cli.COMMANDS["broken"] = cli.Entry("__main__:broken", "Fails.")
cli.main(["broken"])
"""


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("raise BrokenPipeError(32, 'Broken pipe')", 1, "Broken pipe"),
        ("raise KeyboardInterrupt", 130, "interrupted"),
        ("try: raise KeyboardInterrupt\n    except BaseException: raise ImportError", 130, "interrupted"),
        ("import sys; sys.modules['uvicorn'] = None; import uvicorn", 1, "pip install 'recsys-onnx[http]'"),
    ],
)
def test_an_unforeseen_error_is_one_line_too(body: str, code: int, message: str) -> None:
    program = BROKEN.format(body=body)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [(["train", "--output", "never"], "export"), (["data", "describe", "ml-latest-small"], "data")],
)
def test_a_command_names_all_that_it_needs(arguments: list[str], extra: str) -> None:
    """Not what brings the first module that is missed: after `data`, training would miss torch."""
    program = f"import sys; sys.modules['pandas'] = None; from recsys.cli import main; main({arguments!r})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install 'recsys-onnx[{extra}]'" in done.stderr


def test_every_extra_that_is_named_exists() -> None:
    project = tomllib.loads((Path(cli.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(EXTRAS.values()) <= set(project["project"]["optional-dependencies"])


def test_a_reader_that_leaves_is_no_error() -> None:
    code = "from recsys.cli import main; main(['--help'])"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert "Traceback" not in errors


@pytest.mark.parametrize("arguments", [["inspect", "no-such-place"], ["inspec"], ["data", "show"]])
def test_the_exit_code_is_the_same_when_nobody_reads_the_error(arguments) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    code = "from recsys.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], stderr=writes, check=False)
    os.close(writes)
    assert done.returncode == recsys(*arguments).returncode == 2
