"""What the processes of one running service tell each other, as files of a temporary folder."""

from __future__ import annotations

import json
from pathlib import Path

from serve.errors import BundleError, ServeError, of_kind
from serve.files.atomic import write_file


class RunFolder:
    """The folder of one `recsys serve`. Prometheus' client keeps its files here, too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_good = path / "last_good"
        self._announced = path / "announced"
        self._failure = path / "failure.json"
        self._stopping = path / "stopping"

    def note_good(self, bundle: Path) -> None:
        """Remember a bundle that was loaded and answers as its conformance cases say."""
        write_file(self._last_good, str(bundle).encode())

    def last_good(self) -> Path | None:
        """The bundle that was loaded last by any worker; None where none ever was."""
        try:
            return Path(self._last_good.read_text())
        except FileNotFoundError:
            return None

    def note_failure(self, error: ServeError) -> None:
        """Leave the reason for which a worker ends as it starts."""
        write_file(self._failure, json.dumps([type(error).__name__, str(error)]).encode())

    def raise_failure(self) -> None:
        """Raise the error that `note_failure` was given, if it was.

        Raises:
            ServeError: of the same class.
        """
        if self._failure.exists():
            kind, message = json.loads(self._failure.read_text())
            raise of_kind(kind, message, BundleError)

    def claim_announcement(self) -> bool:
        """Whether this is the first worker that asks: it says that the service answers."""
        try:
            self._announced.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def note_stop(self) -> None:
        """State that the service stops: a worker that ends is not just replaced."""
        self._stopping.touch()

    def is_stopping(self) -> bool:
        """Whether `note_stop` was called."""
        return self._stopping.exists()
