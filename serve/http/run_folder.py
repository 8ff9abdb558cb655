"""The state that the processes of one running service share, as files of a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

from serve.errors import ServeError, of_kind
from serve.files.atomic import write_file


class ServiceFolder:
    """The folder of one `recsys serve`; Prometheus' client keeps its files here, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_good, self._failure = path / "last_good", path / "failure.json"
        self._announced, self._stopping = path / "announced", path / "stopping"

    def note_good(self, bundle: Path) -> None:
        """Store the bundle that a worker has loaded and checked."""
        write_file(self._last_good, str(bundle).encode())

    def last_good(self) -> Path | None:
        """The last bundle that any worker has loaded; None: there is none."""
        return Path(self._last_good.read_text()) if self._last_good.exists() else None

    def note_failure(self, error: ServeError) -> None:
        """Store why a worker could not start."""
        write_file(self._failure, json.dumps([type(error).__name__, str(error)]).encode())

    def raise_failure(self) -> None:
        """Raise the stored error, if there is one.

        Raises:
            ServeError: of the class that was stored.
        """
        if self._failure.exists():
            kind, message = json.loads(self._failure.read_text())
            raise of_kind(kind, message)

    def claim_announcement(self) -> bool:
        """Whether the caller is the first worker to be ready, which says so."""
        try:
            self._announced.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def note_stop(self) -> None:
        """Store that the whole service stops, not one worker that is replaced."""
        self._stopping.touch()

    def is_stopping(self) -> bool:
        """Whether the whole service stops."""
        return self._stopping.exists()
