"""Every source and layout gives the same ratings."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from recsys.data import Columns, Interactions, load
from recsys.data.catalog import KNOWN
from recsys.data.download import local_path
from recsys.errors import ConfigError, DataError
from tests.recsys.data.layouts import LAYOUTS, RATINGS_CSV, U_DATA, Make

Write = Callable[[str, str | bytes], str]


def triples(interactions: Interactions) -> list[tuple[object, object, float]]:
    """The slow, obvious way back from indices to ids, one rating at a time."""
    users, items = interactions.users["user_id"].tolist(), interactions.items["item_id"].tolist()
    columns = (interactions.user_index, interactions.item_index, interactions.ratings)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(users[user - 1], items[item - 1], rating) for user, item, rating in rows]


TINY = [(196, 242, 3.0), (186, 302, 3.5), (196, 302, 1.0)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("folder", ["", "any name/"])
@pytest.mark.parametrize("packed", [True, False])
def test_every_layout_gives_the_same_ratings(
    layout: str, folder: str, packed: bool, make_zip: Make, make_folder: Make
) -> None:
    path = (make_zip if packed else make_folder)(LAYOUTS[layout], folder)
    interactions = load(str(path))
    assert triples(interactions) == TINY
    assert interactions.users["user_id"].tolist() == [186, 196]
    assert interactions.items["item_id"].tolist() == [7, 242, 302]  # 7 is listed without a rating
    assert interactions.items["year"].tolist() == [1995, 1996, 1997]
    assert interactions.timestamps is not None
    assert interactions.timestamps.tolist() == [881250949, 891717742, 881250950]
    columns = ("user_index", "item_index", "ratings", "timestamps")
    dtypes = [getattr(interactions, name).dtype for name in columns]
    assert dtypes == [np.int32, np.int32, np.float32, np.int64]
    assert interactions.licence == "unknown"
    assert interactions.name == ("some" if packed else "unpacked")


@pytest.mark.parametrize(
    ("layout", "titles", "genre"),
    [
        ("u.data", ("Misérables, Les (1995)", "L.A. Confidential (1997)"), ""),
        ("ratings.dat", ("Misérables, Les (1995)", "L.A.: Confidential (1997)"), "Drama"),
        ("ratings.csv", ("Misérables (1995–1999)", "L.A., Confidential (1997)"), ""),
        ("atomic", ("Les Misérables", 'L.A. "Confidential"'), ""),
    ],
)
def test_titles_and_genres(layout: str, titles: tuple[str, str], genre: str, make_zip: Make) -> None:
    items = load(str(make_zip(LAYOUTS[layout]))).items
    assert (items["title"][0], items["title"][2]) == titles
    assert items["genres"].tolist() == [genre, "Comedy", "Crime|Comedy"]


@pytest.mark.parametrize("layout", ["u.data", "ratings.dat"])
def test_titles_in_utf_8_are_read_as_such(layout: str, make_folder: Make) -> None:
    """As in MovieLens 10M, whose layout is that of 1M, and in converted copies."""
    items = {"u.data": "u.item", "ratings.dat": "movies.dat"}[layout]
    text = LAYOUTS[layout][items].decode("latin-1")
    found = load(str(make_folder(LAYOUTS[layout] | {items: text.encode()}))).items
    assert found["title"].iloc[0] == "Misérables, Les (1995)"


def test_the_embedded_set() -> None:
    interactions = load("ml-latest-small")
    assert (len(interactions), interactions.n_users, interactions.n_items) == (100_836, 610, 9_742)
    assert len(np.unique(interactions.item_index)) == 9_724
    assert interactions.sha256 == KNOWN["ml-latest-small"].sha256
    assert "redistribution under the same terms" in interactions.licence
    toy_story = interactions.items.iloc[0]
    assert (toy_story.item_id, toy_story.title, toy_story.year) == (1, "Toy Story (1995)", 1995)
    assert triples(interactions)[:2] == [(1, 1, 4.0), (1, 3, 4.0)]
    assert interactions.items["title"].is_unique is False  # five titles stand for two movies each


def test_ml100k(ml100k_zip: Path) -> None:
    by_id = load("ml-100k", from_file=ml100k_zip)
    assert (len(by_id), by_id.n_users, by_id.n_items) == (100_000, 943, 1_682)
    assert triples(by_id)[:2] == [(196, 242, 3.0), (186, 302, 3.0)]
    by_title = load("ml-100k", from_file=ml100k_zip, item_key="title")
    assert (by_title.n_users, by_title.n_items) == (943, 1_664)
    # 307 times, a user has rated two ids of one title; the later rating counts.
    assert len(by_title) == 99_693
    assert "Á köldum klaka (Cold Fever) (1994)" in by_title.items["item_id"].tolist()


def test_text_and_parquet_give_the_same(write: Write, tmp_path: Path) -> None:
    frame = pd.DataFrame({"user_id": ["b", "a", "b"], "item_id": [3, 3, 1], "rating": [1.0, 2.0, 4.5]})
    paths = [write("r.csv", frame.to_csv(index=False)), write("r.tsv", frame.to_csv(index=False, sep="\t"))]
    frame.to_parquet(tmp_path / "r.parquet")
    paths.append(str(tmp_path / "r.parquet"))
    frame.astype({"user_id": "category", "item_id": "int32", "rating": "float64"}).to_parquet(
        tmp_path / "c.parquet"
    )
    paths.append(str(tmp_path / "c.parquet"))
    for path in paths:
        interactions = load(path)
        assert triples(interactions) == [("b", 3, 1.0), ("a", 3, 2.0), ("b", 1, 4.5)]
        assert interactions.timestamps is None
        assert interactions.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_named_columns_and_columns_left_out(write: Write) -> None:
    path = write("r.csv", "stars,who,what,when,timestamp\n5,ann,x,10,never\n1,bob,y,20,never\n")
    interactions = load(path, columns=Columns("who", "what", "stars", "when"))
    assert triples(interactions) == [("ann", "x", 5.0), ("bob", "y", 1.0)]
    assert interactions.timestamps is not None
    assert interactions.timestamps.tolist() == [10, 20]
    assert load(path, columns=Columns("who", "what", "stars", timestamp="")).timestamps is None


@pytest.mark.parametrize("by", ["no column", "rating=''"])
def test_data_without_ratings_is_of_likes(write: Write, caplog: pytest.LogCaptureFixture, by: str) -> None:
    """A repeated pair is no contradiction: it counts once."""
    if by == "no column":
        path, columns = write("r.csv", "user_id,item_id,plays\n1,7,3\n2,7,90\n1,7,2\n"), None
    else:
        path = write("r.csv", "user_id,item_id,rating\n1,7,3\n2,7,90\n1,7,2\n")
        columns = Columns(rating="")
    with caplog.at_level(logging.WARNING):
        interactions = load(path, columns=columns)
    assert interactions.implicit
    assert triples(interactions) == [(2, 7, 1.0), (1, 7, 1.0)]
    assert ("has no column of ratings (rating or ratings)" in caplog.text) == (by == "no column")
    with pytest.raises(DataError, match=r"no column for rating \(stars\)"):
        load(path, columns=Columns(rating="stars"))


def test_files_with_and_without_ratings_do_not_go_together(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("user_id,item_id,rating\n1,2,3\n")
    (tmp_path / "b.csv").write_text("user_id,item_id\n1,3\n")
    with pytest.raises(DataError, match=r"not all files have ratings: others, as .*b\.csv, have none"):
        load(str(tmp_path))


def test_types_that_change_late_in_a_large_file(write: Write) -> None:
    """Integer ids become strings, and whole seconds get fractions."""
    rows = [f"{n},{n % 7},{n % 5},{n}" for n in range(200_000)] + ["last,1,1,7.5"]
    found = load(write("r.csv", "user_id,item_id,rating,timestamp\n" + "\n".join(rows)))
    assert found.users["user_id"].dtype == "str"
    assert set(found.users["user_id"]) == {str(n) for n in range(200_000)} | {"last"}
    assert found.timestamps is not None
    assert found.timestamps.tolist() == [*range(200_000), 7]


def test_the_type_of_ids_comes_from_the_bundle_they_are_for(write: Write, tmp_path: Path) -> None:
    """Text is read as it is written: no zero is lost, and no id becomes another."""
    path = write("r.csv", "user_id,item_id,rating\n000003,0155061224,7\n4,155061224,8\n")
    found = load(path, id_types={"user": pa.int64(), "item": pa.string()})
    assert triples(found) == [(3, "0155061224", 7.0), (4, "155061224", 8.0)]
    assert triples(load(path))[0] == ("000003", "0155061224", 7.0)
    for wrong in ("+4", "0x4", "4_0", "4.0", "four", "４"):
        path = write("w.csv", f"user_id,item_id,rating\n3,1,7\n{wrong},1,7\n")
        with pytest.raises(DataError, match=rf"line 3: user_id '{re.escape(wrong)}': not an integer"):
            load(path, id_types={"user": pa.int64()})
    pd.DataFrame({"user_id": [3], "item_id": [155061224], "rating": [7.0]}).to_parquet(tmp_path / "r.parquet")
    with pytest.raises(DataError, match="item_id is of type int64, and the bundle's ids are strings"):
        load(str(tmp_path / "r.parquet"), id_types={"item": pa.string()})


@pytest.mark.parametrize("others", ["2", "034545104X", "0108775015"])
def test_ids_that_floats_were_written_as_are_refused(write: Write, others: str) -> None:
    path = write("r.csv", f"user_id,item_id,rating\n{others},7,1\n1.0,7,2\n1.55061E+08,7,2\n")
    with pytest.raises(
        DataError, match=r"(?s)2 rows.*line 3: .*astype\('Int64'\).*line 4: .*all of their digits"
    ):
        load(path)


def test_repeated_pairs_are_counted_in_a_line(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write("r.csv", "user_id,item_id,rating\n1,2,3\n1,2,4\n5,2,4\n")
    for options, counted in (
        ({"duplicates": "last"}, "of each pair the latest counts"),
        ({"duplicates": "mean"}, "of each pair the mean counts"),
        ({"columns": Columns(rating="")}, "each pair counts once"),
    ):
        caplog.clear()
        assert len(load(path, **options)) == 2  # type: ignore[arg-type]
        assert f"3 rows have 2 pairs of user and item: {counted}" in caplog.text


@pytest.mark.parametrize("unit", [1e-7, 1e13, 6e37])
def test_ratings_of_a_size_that_no_bundle_holds_are_refused(write: Write, unit: float) -> None:
    path = write("a.csv", f"user_id,item_id,rating\n1,1,{unit * 5}\n2,1,{unit}\n")
    with pytest.raises(DataError, match=r"largest rating is .*1e-06 to 1e\+12. Write the ratings in another"):
        load(path)


def test_lines_within_cells_are_counted_in_a_line(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    """Two quotes that are not closed look like a cell of several lines, and only a reader of it can tell."""
    path = write(
        "r.csv", 'user_id,item_id,rating,title\n1,1,5,One\n1,2,5,"Un\n2,2,4,Two\n3,3,3,Three"\n2,9,1,x\n'
    )
    assert len(load(path)) == 3
    assert "2 lines belong to quoted cells of several lines, the first in" in caplog.text
    assert "r.csv, line 3." in caplog.text


def test_items_merged_by_title(make_zip: Make) -> None:
    members = {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,9,2,20\n1,4,5,10\n2,4,3,30\n2,5,1,30\n",
        "movies.csv": b"movieId,title,genres\n4,Emma (1996),Drama\n5,Alien (1979),Horror\n"
        b"9,Emma (1996),Romance\n",
    }
    path = str(make_zip(members))
    by_title = load(path, item_key="title")
    assert by_title.items.to_dict("list") == {
        "item_id": ["Alien (1979)", "Emma (1996)"],
        "title": ["Alien (1979)", "Emma (1996)"],
        "genres": ["Horror", "Drama"],  # of the lowest id
        "year": [1979, 1996],
    }
    # User 1 rated Emma twice: the later one, which stands first in the file, counts.
    assert triples(by_title) == [(1, "Emma (1996)", 2.0), (2, "Emma (1996)", 3.0), (2, "Alien (1979)", 1.0)]
    mean = load(path, item_key="title", duplicates="mean")
    assert triples(mean)[0] == (1, "Emma (1996)", 3.5)


def test_ratings_without_titles(make_zip: Make, caplog: pytest.LogCaptureFixture) -> None:
    for file in ("ratings.csv", "u.data", "ratings.dat"):
        with caplog.at_level(logging.WARNING):
            interactions = load(str(make_zip({file: LAYOUTS[file][file]})))
        assert triples(interactions) == TINY
        assert list(interactions.items) == ["item_id"]
        assert "items have no titles" in caplog.text


def test_folders_of_several_parts(tmp_path: Path) -> None:
    """As Spark and Hive leave them: markers, checksums, partitions; ids get one type over all files."""
    root = tmp_path / "ratings"
    frame = pd.DataFrame({"user_id": [1, 2], "item_id": [7, 8], "rating": [3.0, 4.0], "timestamp": [1, 2]})
    for year, part in (("2023", frame), ("2024", frame.assign(user_id=[3, 4]))):
        (root / f"year={year}").mkdir(parents=True)
        part.to_parquet(root / f"year={year}" / "part-0.parquet")
        (root / f"year={year}" / ".part-0.parquet.crc").touch()
    (root / "_SUCCESS").touch()
    assert triples(load(str(root))) == [(1, 7, 3.0), (2, 8, 4.0), (3, 7, 3.0), (4, 8, 4.0)]
    assert load(str(root)).name == "ratings"
    before = load(f"{root}/*").sha256
    (root / "more.csv").write_text("userId, movieId, rating, timestamp\n5, 0108775015, 1, 1970-01-01\n")
    mixed = load(str(root))
    assert mixed.sha256 != before
    assert triples(mixed)[0] == (5, "0108775015", 1.0)
    assert mixed.items["item_id"].tolist() == ["0108775015", "7", "8"]
    (root / "untimed.csv").write_text("userId,movieId,rating\n6,7,1\n")
    with pytest.raises(
        DataError, match=r"not all files have timestamps: others, as .*untimed\.csv, have none"
    ):
        load(str(root))


def test_refusals_in_parts_name_their_file(tmp_path: Path) -> None:
    for name, rating in (("a.csv", "1"), ("b.csv", "bad")):
        (tmp_path / name).write_text(f"user_id,item_id,rating\n1,{rating},{rating}\n")
    with pytest.raises(DataError, match=r"1 row can't be read:\n  .*b\.csv, line 2: rating 'bad'"):
        load(str(tmp_path))


def test_another_delimiter(write: Write, make_zip: Make) -> None:
    path = write("r.csv", "user_id;item_id;rating\n1;2;3.5\n")
    assert triples(load(path, delimiter=";")) == [(1, 2, 3.5)]
    with pytest.raises(DataError, match="--delimiter ';'"):
        load(path)
    with pytest.raises(DataError, match="delimiter=';;': one character"):
        load(path, delimiter=";;")
    with pytest.raises(ConfigError, match=r"the layout of .* has its own"):
        load(str(make_zip(RATINGS_CSV)), delimiter=";")


def test_an_unpublished_copy_is_read_and_said_so(make_zip: Make, caplog: pytest.LogCaptureFixture) -> None:
    path = make_zip(U_DATA, "ml-100k/")
    with caplog.at_level(logging.WARNING):
        interactions = load("ml-100k", from_file=path)
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    assert interactions.sha256 == actual
    assert interactions.name == "ml-100k"
    assert "no redistribution" in interactions.licence
    assert actual in caplog.text
    assert KNOWN["ml-100k"].sha256 in caplog.text
    assert "has 3 ratings; ml-100k has 100,000" in caplog.text


def test_a_published_copy_is_recognised_by_its_checksum(tmp_path: Path) -> None:
    copy = tmp_path / "copy.zip"
    copy.write_bytes(local_path(KNOWN["ml-latest-small"]).read_bytes())
    assert load(str(copy)).name == "ml-latest-small"
    with pytest.raises(DataError, match="is ml-latest-small, not ml-20m"):
        load("ml-20m", from_file=copy)


def test_another_layout_under_a_known_name_is_refused(make_zip: Make) -> None:
    with pytest.raises(DataError, match=r"is not ml-1m: its ratings are in u\.data"):
        load("ml-1m", from_file=make_zip(U_DATA))


def test_the_hash_of_a_folder_is_that_of_what_was_read(make_folder: Make) -> None:
    root = make_folder(RATINGS_CSV)
    before = load(str(root)).sha256
    (root / "README.txt").write_text("not read")
    assert load(str(root)).sha256 == before
    with (root / "movies.csv").open("ab") as movies:
        movies.write(b"8,New (2001),Drama\n")
    assert load(str(root)).sha256 != before


def test_arguments_that_do_not_exist_or_go_together(write: Write, tmp_path: Path) -> None:
    path = write("r.csv", "user_id,item_id,rating\n1,2,3\n")
    with pytest.raises(ConfigError, match="goes with a data set known by name"):
        load(path, from_file=tmp_path)
    with pytest.raises(ConfigError, match="duplicates='first': one of error, last, mean"):
        load(path, duplicates="first")
    with pytest.raises(ConfigError, match="item_key='name': one of id, title"):
        load(path, item_key="name")
    with pytest.raises(DataError, match=r"Did you mean ml-100k\?"):
        load("ml-100")
    with pytest.raises(DataError, match=r"r\.csv is neither a zip nor a folder"):
        load("ml-20m", from_file=Path(path))
    with pytest.raises(DataError, match=r"nowhere\.zip does not exist"):
        load("ml-1m", from_file=tmp_path / "nowhere.zip")
