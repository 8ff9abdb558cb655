"""The console of the commands: what runs goes on when nobody reads what it prints."""

from __future__ import annotations

import os

import rich.console


class Console(rich.console.Console):
    """Rich's; but once a reader leaves (`| head`), silent, and the exit code is that of the work."""

    def on_broken_pipe(self) -> None:
        """See rich, which would end the process with exit code 1."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
