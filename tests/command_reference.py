"""docs/commands.md: every command and flag, from the commands themselves.

`python tests/command_reference.py` writes it; a test fails when it is out of date.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from recsys.cli import COMMANDS, cli

PATH = Path(__file__).parent.parent / "docs" / "commands.md"

HEAD = """# Commands

Every command and flag, as `--help` tells them. This page is written by `python tests/command_reference.py`.

Exit codes: 0 done, 1 failed, 2 wrong usage or input, 3 finished but rows were quarantined, 130 interrupted
(Ctrl-C). `--debug`, anywhere on the line, shows the traceback of an error.
"""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command with its whole name: "recsys train", "recsys data describe", …"""
    context = click.Context(cli, info_name="recsys")
    for name in COMMANDS:
        command = cli.get_command(context, name)  # type: ignore[attr-defined]
        assert command is not None, name
        yield f"recsys {name}", command
        if isinstance(command, click.Group):
            for child in command.commands.values():
                yield f"recsys {name} {child.name}", child


def reference() -> str:
    """The page."""
    parts = [HEAD]
    for name, command in commands():
        context = click.Context(
            command,
            info_name=name,
            terminal_width=100,
            max_content_width=100,
            help_option_names=cli.context_settings["help_option_names"],
        )
        parts.append(f"\n## {name}\n\n```\n{command.get_help(context)}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PATH.write_text(reference(), encoding="utf-8")
