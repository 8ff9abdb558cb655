"""The errors of `serve`. Each is also a subclass of the builtin that fits.

The `recsys` command exits with `exit_code`; nothing else reads it.
"""


class ServeError(Exception):
    """Base of all errors of `serve`."""

    exit_code = 1


class BundleError(ServeError, ValueError):
    """The bundle is incomplete, damaged, of an unknown format version, or not to be trusted."""


class SignatureError(BundleError):
    """The bundle is not signed, or not by this key, or it was changed since."""


class KeyFileError(ServeError, ValueError):
    """A file that should hold a key, and does not."""

    exit_code = 2


class HubError(ServeError, ConnectionError):
    """The Hugging Face Hub can't be reached, or refuses."""


class NotABundleError(BundleError):
    """The path leads to something else: a run, a folder of data, a file."""

    exit_code = 2


class DeviceError(ServeError, RuntimeError):
    """The device that was asked for does not work on this machine."""


class UnknownIdError(ServeError, LookupError):
    """An id that is not in the bundle, where the caller asked for an error."""

    exit_code = 2


class RequestError(ServeError, ValueError):
    """An argument of the wrong type, shape, length or range."""

    exit_code = 2


class UnsupportedError(ServeError, NotImplementedError):
    """The bundle has no graph for this request, such as fold-in of an MLP."""


class SeenLeftOutError(UnsupportedError):
    """The bundle was exported without what users have rated, and the request needs that."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            "this bundle was exported without what users have rated (--without-seen), so it can't leave that "
            "out: take exclude_seen=False (--include-seen), and name the items to leave out yourself"
        )


class OutputError(ServeError, OSError):
    """The output can't be written there: the path exists, is a link, or belongs to a running job."""

    exit_code = 2


class FullDiskError(ServeError, OSError):
    """The disk is full, or a quota or a limit of file sizes is reached."""


class InputError(ServeError, ValueError):
    """An input that can't be read: no files, a column missing or of the wrong type, a damaged file."""

    exit_code = 2


class BadRowError(ServeError, ValueError):
    """A bad row of a batch input where bad rows are not quarantined, or too many of them."""

    exit_code = 2


class ClusterError(ServeError, ConnectionError):
    """A Ray cluster can't be reached, or refuses the connection."""


class StoreError(ServeError, ConnectionError):
    """An object store can't be reached, refuses, or is of an unknown kind."""


class JobError(ServeError, RuntimeError):
    """A batch job stopped before its end; finished parts are kept for `--resume`."""
