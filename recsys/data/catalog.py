"""The data sets that are known by name: where they are, how to recognise them, on what terms they come."""

from __future__ import annotations

from dataclasses import dataclass

BASE_URL = "https://files.grouplens.org/datasets/movielens/"
DEFAULT = "ml-latest-small"

_CITE = "cite Harper and Konstan 2015, https://doi.org/10.1145/2827872"
_USE = "MovieLens (GroupLens): no commercial use without permission"
_SHARED = f"{_USE}; redistribution under the same terms; {_CITE}"
_CLOSED = f"{_USE}; no redistribution without permission; {_CITE}"


@dataclass(frozen=True)
class DataSet:
    """A published data set."""

    name: str
    bytes: int
    """Size of the zip."""
    sha256: str
    """Published checksum of the zip."""
    n_ratings: int
    ratings_file: str
    """The file of the zip that holds the ratings; it also tells which layout the zip has."""
    licence: str
    """Its terms in one line; the README inside the zip has them in full."""

    @property
    def url(self) -> str:
        """Where the zip is published."""
        return f"{BASE_URL}{self.name}.zip"


_SETS = (
    DataSet(
        "ml-latest-small",
        978_202,
        "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        100_836,
        "ratings.csv",
        _SHARED,
    ),
    DataSet(
        "ml-100k",
        4_924_029,
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        100_000,
        "u.data",
        _CLOSED,
    ),
    DataSet(
        "ml-1m",
        5_917_549,
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        1_000_209,
        "ratings.dat",
        _CLOSED,
    ),
    # Its README was not at hand to check: the stricter terms are assumed.
    DataSet(
        "ml-20m",
        198_702_078,
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        20_000_263,
        "ratings.csv",
        _CLOSED,
    ),
    DataSet(
        "ml-25m",
        261_978_986,
        "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        25_000_095,
        "ratings.csv",
        _CLOSED,
    ),
    DataSet(
        "ml-32m",
        238_950_008,
        "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
        32_000_204,
        "ratings.csv",
        _SHARED,
    ),
)

KNOWN: dict[str, DataSet] = {known.name: known for known in _SETS}
"""By name, smallest first."""
