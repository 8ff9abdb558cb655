"""What answering can raise.

Each error is also a subclass of the fitting builtin, so a caller who does not know this module still
catches the right thing. `exit_code` is what the `recsys` command exits with; nothing else reads it.
"""


class ServeError(Exception):
    """Base of everything that answering raises on purpose."""

    exit_code = 1


class BundleError(ServeError, ValueError):
    """The bundle is incomplete, damaged, of an unknown format version, or not to be trusted."""


class DeviceError(ServeError, RuntimeError):
    """The device that was asked for is not really there."""


class UnknownIdError(ServeError, LookupError):
    """An id that is not in the tables, where the caller asked for an error."""

    exit_code = 2


class RequestError(ServeError, ValueError):
    """A request that can't be answered: a wrong type, shape, length or range."""

    exit_code = 2


class UnsupportedError(ServeError, NotImplementedError):
    """The bundle has no graph for this request (fold-in of an MLP, say)."""


class OutputError(ServeError, OSError):
    """The output may not go where it was asked to: something is there already, or it is a link."""

    exit_code = 2


class InputError(ServeError, ValueError):
    """An input that can't be read: no files, a column missing or of the wrong type, a damaged file."""

    exit_code = 2


class BadRowError(ServeError, ValueError):
    """A row of a batch input without an answer where bad rows are not quarantined, or too many of them."""


class ClusterError(ServeError, ConnectionError):
    """A Ray cluster can't be reached, or refuses the connection."""


class JobError(ServeError, RuntimeError):
    """A batch job stopped before its end; what it has finished is kept for `--resume`."""


def of_kind(kind: str | None, message: str, otherwise: type[ServeError] = ServeError) -> ServeError:
    """The error that another process has raised, from the name of its class."""
    found = globals().get(kind or "")
    if isinstance(found, type) and issubclass(found, ServeError):
        return found(message)
    return otherwise(message)
