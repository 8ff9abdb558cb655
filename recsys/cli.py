"""The `recsys` command: a lazy group whose subcommands live beside the work that they start.

A subcommand is named here by module path and imported only when it is called, so that `recsys recommend`
starts without torch. Exceptions become exit codes here, and only here.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from typing import Any, NamedTuple, NoReturn

import click

from recsys.project_file import default_map, naming_the_file
from serve.files.full_disk import is_full
from serve.terminal import has_no_reader, mute, printable, warn


class Entry(NamedTuple):
    """The target of a subcommand ("module:attribute"), and its line in `recsys --help`."""

    target: str
    help: str


COMMANDS = {
    "data": Entry("recsys.commands.data:data", "Download, read and describe rating data sets."),
    "train": Entry("recsys.commands.train:train", "Train a model on ratings; leaves a run folder."),
    "tune": Entry("recsys.commands.tune:tune", "Find parts and settings that suit a data set."),
    "evaluate": Entry("export.commands.evaluate:evaluate", "Measure a run or a bundle on held-out ratings."),
    "export": Entry("export.commands.export:export", "Turn a run into a verified ONNX bundle."),
    "add-items": Entry("export.commands.add_items:add_items", "Add items to a bundle without training."),
    "forget": Entry("export.commands.forget:forget", "Take users out of a bundle."),
    "verify": Entry("export.commands.verify:verify", "Prove that a bundle is its run's, or who signed it."),
    "sign": Entry("serve.commands.sign:sign", "Sign a bundle."),
    "push": Entry("serve.commands.push:push", "Put a bundle on the Hugging Face Hub."),
    "inspect": Entry("serve.commands.inspect:inspect", "Show what is inside a bundle."),
    "report": Entry("demos.commands.report:report", "Write a page about a bundle."),
    "recommend": Entry("serve.commands.recommend:recommend", "Recommend items to a user, or to many."),
    "score": Entry("serve.commands.score:score", "Score a file of pairs."),
    "similar": Entry("serve.commands.similar:similar", "Find the items most like an item."),
    "fold-in": Entry("serve.commands.fold_in:fold_in", "Recommend to a new user from a few ratings."),
    "profiles": Entry("serve.commands.profiles:profiles", "Recommend to a new user from a few answers."),
    "serve": Entry("serve.commands.serve:serve", "Answer over HTTP."),
    "demo": Entry("demos.commands.demo:demo", "Show a bundle as a page to try."),
}

# Module -> the extra that installs it, for the error when it is missing.
EXTRAS = {
    "torch": "train",
    "safetensors": "train",
    "psutil": "train",
    "pandas": "data",
    "pooch": "data",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxscript": "export",
    "fastapi": "http",
    "pydantic": "http",
    "prometheus_client": "http",
    "starlette": "http",
    "uvicorn": "http",
    "ray": "ray",
    "gradio": "demo",
    "jinja2": "demo",
    "markupsafe": "demo",
    "matplotlib": "demo",
    "sklearn": "export",
    "model_signing": "sign",
    "huggingface_hub": "hub",
    "OpenSSL": "sign",
}
TRAINERS = {"train", "tune", "export", "add-items", "forget"}
"""Commands that need all that training and export need."""


class LazyGroup(click.Group):
    """A click group that imports a subcommand only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every subcommand, in the order of `COMMANDS`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand; None: there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; a reader of its output that has left (head, less) is no error."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:  # click itself would exit with 1
            if not has_no_reader(sys.stdout):
                raise ConnectionError(str(error)) from error
            # Flushing the buffer at exit must not fail.
            mute(sys.stdout)
            return ctx.exit(ctx.meta.get("exit_code", 0))
        except click.BadParameter as error:
            raise naming_the_file(error) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the subcommands from the table above, importing none of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the settings of `recsys.toml` as defaults.

        The error for an unknown command names those like it, none of which is imported.
        """
        try:
            name, command, words = super().resolve_command(ctx, args)
        except click.NoSuchCommand as error:
            raise click.NoSuchCommand(error.command_name, possibilities=COMMANDS, ctx=ctx) from None
        asks_for_help = not set(ctx.help_option_names).isdisjoint(words)
        if name and command and not (ctx.resilient_parsing or asks_for_help):
            ctx.default_map = default_map(name, command, words, COMMANDS)
        return name, command, words


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="recsys-onnx", prog_name="recsys")
def cli(debug: bool) -> None:
    """Train a recommender in PyTorch, ship it as ONNX files, and prove that they agree.

    \b
    From ratings to recommendations:
      recsys train --output runs/mine              # on ratings that are in the package
      recsys export runs/mine --explain --output artifacts/mine
      recsys recommend artifacts/mine --user-id 42
      recsys demo artifacts/mine --open

    `recsys data describe FILE` looks at ratings of your own, and `recsys COMMAND --help` explains a command.
    A file recsys.toml in the working directory sets flags (docs/commands.md).

    Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 finished but rows were quarantined,
    130 interrupted.
    """


def main(args: list[str] | None = None) -> None:
    """Run the command; every exception becomes one line on stderr and an exit code."""
    arguments = sys.argv[1:] if args is None else args
    debug = "--debug" in arguments
    # `--debug` belongs to the group, but is accepted anywhere on the line.
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        sys.exit(cli.main(args=arguments, prog_name="recsys", standalone_mode=False))
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.Abort:
        _leave_interrupted()
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if debug or (error.name or "") not in EXTRAS:
            raise
        # Not the first of several modules that the command would miss, one after the other.
        extra = "export" if TRAINERS & {*arguments[:1]} else EXTRAS[error.name or ""]
        _fail(f"this command needs {error.name}. Install it: pip install 'recsys-onnx[{extra}]'", 1)
    except Exception as error:  # the last handler: no traceback reaches a user without --debug
        if debug:
            raise
        if _was_interrupted(error):
            _leave_interrupted()
        message = str(error) or type(error).__name__
        exit_code = getattr(error, "exit_code", None)
        if exit_code is None and isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"  # most often a read-only disk
        elif exit_code is None and is_full(error):
            message = f"the output can't be written: {error}"  # such as standard output to a full disk
        elif exit_code is None:
            message = f"{type(error).__name__}: {message}\n(run the same command with --debug for details)"
        _fail(message, exit_code or 1)


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether a Ctrl-C caused the error: a library may wrap KeyboardInterrupt in another one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _leave_interrupted() -> NoReturn:
    """Exit with 130 at once; Python would end the process by the signal instead."""
    warn("Error: interrupted")
    os._exit(130)


def _fail(message: str, exit_code: int) -> None:
    warn(f"Error: {printable(message)}")
    sys.exit(exit_code)
