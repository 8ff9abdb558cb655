"""The state that the processes of one running service share, as files of a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

from serve import errors
from serve.files.atomic import write_file


class ServiceFolder:
    """The folder of one `recsys serve`; Prometheus' client keeps its files here, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_good, self._failure = path / "last_good", path / "failure.json"
        self._announced = path / "announced"
        self.stopping = path / "stopping"
        """There once the whole service stops, and not one worker that is replaced."""

    def note_good(self, bundle: Path) -> None:
        """Store the bundle that a worker has loaded and checked."""
        write_file(self._last_good, str(bundle).encode())

    def last_good(self) -> Path | None:
        """The last bundle that any worker has loaded; None: there is none."""
        return Path(self._last_good.read_text()) if self._last_good.exists() else None

    def note_failure(self, error: errors.ServeError) -> None:
        """Store why a worker could not start."""
        write_file(self._failure, json.dumps([type(error).__name__, str(error)]).encode())

    def raise_failure(self) -> None:
        """Raise the stored error, of its own class, if there is one."""
        if self._failure.exists():
            kind, message = json.loads(self._failure.read_text())
            raise getattr(errors, kind, errors.ServeError)(message)

    def claim_announcement(self) -> bool:
        """Whether the caller is the first worker to be ready, which says so."""
        try:
            self._announced.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True
