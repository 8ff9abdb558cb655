"""The console of the commands: a command continues when the reader of its output has left."""

from __future__ import annotations

from typing import TextIO, cast

import rich.console

from serve.terminal import mute


class Console(rich.console.Console):
    """Rich's console, which becomes silent when its reader leaves (`| head`)."""

    def on_broken_pipe(self) -> None:
        """Become silent; rich would end the process with exit code 1."""
        self.quiet = True
        mute(cast(TextIO, self.file))
