"""Damaged and hostile archives."""

from __future__ import annotations

import stat
import struct
import zipfile
from pathlib import Path

import pytest

from recsys.data import archive, load
from recsys.errors import DataError
from tests.recsys.data.layouts import RATINGS_CSV, Make


def test_a_zip_cut_off_anywhere_is_refused(make_zip: Make, tmp_path: Path) -> None:
    whole = make_zip(RATINGS_CSV).read_bytes()
    path = tmp_path / "cut.zip"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="not a whole zip archive"):
            load(str(path))


def test_a_flipped_byte_in_a_member_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "stored.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as stored:
        for name, content in RATINGS_CSV.items():
            stored.writestr(name, content)
    # Still a well-formed table: only the checksum of the member tells.
    path.write_bytes(path.read_bytes().replace(b"196,242,3.0", b"196,242,4.0"))
    with pytest.raises(DataError, match="CRC-32"):
        load(str(path))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_unsafe_members(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("ratings.csv")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for members, message in (
        (["/etc/ratings.csv"], "not a plain relative one"),
        (["C:/ratings.csv"], "not a plain relative one"),
        (["..\\ratings.csv"], "not a plain relative one"),
        (["ml/../../ratings.csv"], "leads out of the archive"),
        (["ratings.csv", "ratings.csv"], "has it twice"),
        ([link], "it is a link"),
    ):
        with zipfile.ZipFile(tmp_path / "crafted.zip", "w") as crafted:
            for member in members:
                crafted.writestr(member, "x")
        with pytest.raises(DataError, match=message):
            load(str(tmp_path / "crafted.zip"))


def test_encrypted_and_oddly_packed_members(make_zip: Make, tmp_path: Path) -> None:
    plain = bytearray(make_zip({"ratings.csv": b"x"}).read_bytes())
    directory = plain.index(b"PK\x01\x02")
    plain[directory + 8] |= 1  # the flag of encryption, in the central directory
    path = tmp_path / "encrypted.zip"
    path.write_bytes(plain)
    with pytest.raises(DataError, match="encrypted"):
        load(str(path))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as odd:
        odd.writestr("ratings.csv", "x")
    with pytest.raises(DataError, match="not packed by deflate"):
        load(str(path))


def test_a_bomb(make_zip: Make) -> None:
    with pytest.raises(DataError, match="zip bomb"):
        load(str(make_zip(RATINGS_CSV | {"zeros.txt": bytes(300 * 2**20)})))


def test_too_many_members(make_zip: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    with pytest.raises(DataError, match="has 2 members; at most 1"):
        load(str(make_zip(RATINGS_CSV)))


def test_a_member_never_gives_more_than_it_declares(make_zip: Make, tmp_path: Path) -> None:
    """A directory that understates the size, to slip under the limits, gets no more than that many bytes."""
    content = RATINGS_CSV["ratings.csv"]
    lying = make_zip(RATINGS_CSV).read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", 10))
    path = tmp_path / "lying.zip"
    path.write_bytes(lying)
    with pytest.raises(DataError):
        load(str(path))
