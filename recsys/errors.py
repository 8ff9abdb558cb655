"""The errors of reading data, training and evaluation.

Each is also a subclass of the fitting builtin. `exit_code` is the exit code of the `recsys` command.
"""


class RecsysError(Exception):
    """Base class of the errors of this package."""

    exit_code = 1


class DataError(RecsysError, ValueError):
    """Invalid data: a missing column, a NaN rating, a truncated zip, a wrong checksum."""

    exit_code = 2


class DownloadError(RecsysError, OSError):
    """A data set could not be downloaded."""


class CheckpointError(RecsysError, ValueError):
    """A run folder is incomplete or damaged."""


class NotARunError(CheckpointError):
    """The path leads to something else: a bundle, a folder of data, a file."""

    exit_code = 2


class ConfigError(RecsysError, ValueError):
    """Wrong settings, or settings that contradict each other or the data."""

    exit_code = 2


class TrainingError(RecsysError, ArithmeticError):
    """Training diverged: the loss is no longer a finite number."""


class PeerError(RecsysError, ConnectionError):
    """Another process of the same training has stopped, hangs, or can't be reached."""


class MemoryShortageError(RecsysError, MemoryError):
    """A job would need more memory than is free."""
