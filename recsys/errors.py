"""What reading data, training and evaluating can raise.

Each error is also a subclass of the fitting builtin, so a caller who does not know this module still
catches the right thing. `exit_code` is what the `recsys` command exits with; nothing else reads it.
"""


class RecsysError(Exception):
    """Base of everything that this package raises on purpose."""

    exit_code = 1


class DataError(RecsysError, ValueError):
    """The data is not what it should be: a missing column, a NaN rating, a truncated zip, a bad checksum."""

    exit_code = 2


class DownloadError(RecsysError, OSError):
    """A data set could not be fetched."""


class CheckpointError(RecsysError, ValueError):
    """A run folder is incomplete, damaged, or does not fit what was asked of it."""


class ConfigError(RecsysError, ValueError):
    """Settings that contradict each other or the data."""

    exit_code = 2


class TrainingError(RecsysError, ArithmeticError):
    """Training diverged: the loss is no longer a finite number."""


class PeerError(RecsysError, ConnectionError):
    """Another process of the same training has stopped, hangs, or can't be reached."""
