"""The console of the commands: what runs goes on when nobody reads what it prints."""

from __future__ import annotations

from typing import TextIO, cast

import rich.console

from serve.terminal import mute


class Console(rich.console.Console):
    """Rich's; but once a reader leaves (`| head`), silent, and the exit code is that of the work."""

    def on_broken_pipe(self) -> None:
        """See rich, which would end the process with exit code 1."""
        self.quiet = True
        mute(cast(TextIO, self.file))
