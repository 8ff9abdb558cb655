"""The data sets that are known by name: sources, checksums and terms."""

from __future__ import annotations

from dataclasses import dataclass

BASE_URL = "https://files.grouplens.org/datasets/movielens/"
DEFAULT = "ml-latest-small"

_CITE = "cite Harper and Konstan 2015, https://doi.org/10.1145/2827872"
_USE = "MovieLens (GroupLens): no commercial use without permission"
_SHARED = f"{_USE}; redistribution under the same terms; {_CITE}"
_CLOSED = f"{_USE}; no redistribution without permission; {_CITE}"
_SHA256 = {
    "ml-latest-small": "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
    "ml-100k": "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
    "ml-1m": "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
    "ml-20m": "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
    "ml-25m": "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
    "ml-32m": "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
}


@dataclass(frozen=True)
class DataSet:
    """A published data set."""

    name: str
    sha256: str
    """Published checksum of the zip."""
    bytes: int
    """Size of the zip."""
    n_ratings: int
    ratings_file: str
    """The file of ratings in the zip, which also tells its layout."""
    licence: str
    """Terms in one line; the README in the zip has them in full."""

    @property
    def url(self) -> str:
        """Where the zip is published."""
        return f"{BASE_URL}{self.name}.zip"


KNOWN: dict[str, DataSet] = {
    name: DataSet(name, _SHA256[name], n_bytes, n_ratings, ratings_file, licence)
    for name, n_bytes, n_ratings, ratings_file, licence in (
        ("ml-latest-small", 978_202, 100_836, "ratings.csv", _SHARED),
        ("ml-100k", 4_924_029, 100_000, "u.data", _CLOSED),
        ("ml-1m", 5_917_549, 1_000_209, "ratings.dat", _CLOSED),
        # The terms of ml-20m are not verified: the stricter ones are assumed.
        ("ml-20m", 198_702_078, 20_000_263, "ratings.csv", _CLOSED),
        ("ml-25m", 261_978_986, 25_000_095, "ratings.csv", _CLOSED),
        ("ml-32m", 238_950_008, 32_000_204, "ratings.csv", _SHARED),
    )
}
"""By name, smallest first."""
