"""Public data sets, in the layouts in which they are published: each row of the table in docs/data.md."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from recsys.commands.data_options import load_from_options
from recsys.data import load
from recsys.errors import DataError
from tests.recsys.data.test_loading import triples

DOCS = Path(__file__).parents[3] / "docs" / "data.md"


class Published(NamedTuple):
    files: dict[str, bytes]
    asked: str
    options: dict[str, str]
    """As on the command line."""
    rows: list[tuple[object, object, float]]
    times: list[int] | None = None


def lines(*rows: object) -> bytes:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows).encode()


LAYOUTS = {
    "Last.fm 360K": Published(
        {
            "usersha1-artmbid-artname-plays.tsv": lines(
                '00000c\t3bd73256\t"Weird Al" Yankovic\t2137', "00001d\t\tThe 5. 6. 7. 8's\t12"
            )
        },
        "usersha1-artmbid-artname-plays.tsv",
        {"heading": "user_id,mbid,item_id,plays"},
        [("00000c", '"Weird Al" Yankovic', 1.0), ("00001d", "The 5. 6. 7. 8's", 1.0)],
    ),
    "Last.fm 1K": Published(
        {
            "userid-timestamp-artid-artname-traid-traname.tsv": lines(
                "user_01\t2009-05-04T23:08:57Z\tf1\tA\t\tB"
            )
        },
        "userid-timestamp-artid-artname-traid-traname.tsv",
        {"heading": "user_id,timestamp,artist_id,item_id,track_id,track"},
        [("user_01", "A", 1.0)],
        [1241478537],
    ),
    "Last.fm HetRec 2011": Published(
        {"user_artists.dat": b"userID\tartistID\tweight\r\n2\t51\t13883\r\n"},
        "user_artists.dat",
        {"delimiter": "tab", "item_column": "artistID", "rating_column": "weight"},
        [(2, 51, 13883.0)],
    ),
    "Netflix Prize": Published(
        {
            "combined_data_1.txt": lines("1:", "1488844,3,2005-09-06"),
            "combined_data_2.txt": lines("4500:", "2,5,2004-01-01"),
        },
        "combined_data_*.txt",
        {},
        [(1488844, 1, 3.0), (2, 4500, 5.0)],
        [1125964800, 1072915200],
    ),
    "Amazon 2023": Published(
        {
            "All_Beauty.jsonl.gz": gzip.compress(
                lines(
                    {
                        "rating": 5.0,
                        "title": 'Such a "lovely" scent',
                        "images": [],
                        "asin": "B00YQ6X8EO",
                        "parent_asin": "0439893577",
                        "user_id": "AGKHLEW2",
                        "timestamp": 1588687728923,
                        "verified_purchase": True,
                    }
                )
            )
        },
        "All_Beauty.jsonl.gz",
        {},
        [("AGKHLEW2", "0439893577", 5.0)],
        [1588687728],
    ),
    "Amazon 2023, rating only": Published(
        {
            "All_Beauty.csv.gz": gzip.compress(
                lines("user_id,parent_asin,rating,timestamp", "AGK,B00,4.0,1588687728923")
            )
        },
        "All_Beauty.csv.gz",
        {},
        [("AGK", "B00", 4.0)],
        [1588687728],
    ),
    "Amazon 2018": Published(
        {
            "Books_5.json.gz": gzip.compress(
                lines(
                    {"overall": 5.0, "reviewerID": "A1", "asin": "0001713353", "unixReviewTime": 1112140800}
                )
            )
        },
        "Books_5.json.gz",
        {},
        [("A1", "0001713353", 5.0)],
        [1112140800],
    ),
    "Amazon 2018, ratings only": Published(
        {"Books.csv": lines("0001713353,A1C6M8LCIX4M6M,5.0,1123804800")},
        "Books.csv",
        {"heading": "item_id,user_id,rating,timestamp"},
        [("A1C6M8LCIX4M6M", "0001713353", 5.0)],
        [1123804800],
    ),
    "Goodreads (UCSD)": Published(
        {
            "goodreads_interactions_poetry.json.gz": gzip.compress(
                lines(
                    {
                        "user_id": "8842281e",
                        "book_id": "24375664",
                        "rating": 4,
                        "date_added": "Fri Aug 25 13:55:02 -0700 2017",
                    }
                )
            )
        },
        "goodreads_interactions_poetry.json.gz",
        {},
        [("8842281e", 24375664, 4.0)],
    ),
    "Goodbooks-10k": Published(
        {
            "ratings.csv": lines("user_id,book_id,rating", "1,258,5"),
            "books.csv": b"id,title\n",
            "tags.csv": b"",
        },
        ".",
        {},
        [(1, 258, 5.0)],
    ),
    "Yelp": Published(
        {
            "yelp_academic_dataset_review.json": lines(
                {
                    "review_id": "K",
                    "user_id": "mh_-eM",
                    "business_id": "XQfwVw",
                    "stars": 3.0,
                    "text": "a\nb",
                    "date": "2018-07-07 22:09:11",
                }
            )
        },
        "yelp_academic_dataset_review.json",
        {"timestamp_column": "date"},
        [("mh_-eM", "XQfwVw", 3.0)],
        [1531001351],
    ),
    "H&M": Published(
        {
            "transactions_train.csv": lines(
                "t_dat,customer_id,article_id,price,sales_channel_id", "2018-09-20,000058a,0663713001,0.05,2"
            )
        },
        "transactions_train.csv",
        {"timestamp_column": "t_dat"},
        [("000058a", "0663713001", 1.0)],
        [1537401600],
    ),
    "Book-Crossing": Published(
        {
            "BX-Book-Ratings.csv": lines(
                '"User-ID";"ISBN";"Book-Rating"', '"276725";"034545104X";"0"', '"276726";"0155061224";"5"'
            )
        },
        "BX-Book-Ratings.csv",
        {"delimiter": ";"},
        [(276725, "034545104X", 0.0), (276726, "0155061224", 5.0)],
    ),
    "Steam 200K": Published(
        {
            "steam-200k.csv": lines(
                '151603712,"The Elder Scrolls V Skyrim",purchase,1.0,0',
                '151603712,"The Elder Scrolls V Skyrim",play,273.0,0',
            )
        },
        "steam-200k.csv",
        {"heading": "user_id,item_id,behavior,value,zero"},
        [(151603712, "The Elder Scrolls V Skyrim", 1.0)],
    ),
    "Steam on Kaggle": Published(
        {
            "recommendations.csv": lines(
                "app_id,helpful,funny,date,is_recommended,hours,user_id,review_id",
                "975370,0,0,2022-12-12,true,36.3,51580,0",
            )
        },
        "recommendations.csv",
        {"item_column": "app_id", "rating_column": "hours", "timestamp_column": "date"},
        [(51580, 975370, pytest.approx(36.3))],
        [1670803200],
    ),
    "RetailRocket": Published(
        {
            "events.csv": lines(
                "timestamp,visitorid,event,itemid,transactionid", "1433221332117,257597,view,355908,"
            )
        },
        "events.csv",
        {},
        [(257597, 355908, 1.0)],
        [1433221332],
    ),
    "Million Song": Published(
        {"train_triplets.txt": lines("b80344d0\tSOAKIMP12A8C130995\t1")},
        "train_triplets.txt",
        {"delimiter": "tab", "heading": "user_id,item_id,plays"},
        [("b80344d0", "SOAKIMP12A8C130995", 1.0)],
    ),
    "Gowalla": Published(
        {
            "loc-gowalla_totalCheckins.txt.gz": gzip.compress(
                lines("0\t2010-10-19T23:55:27Z\t30.23\t-97.79\t22847")
            )
        },
        "loc-gowalla_totalCheckins.txt.gz",
        {"delimiter": "tab", "heading": "user_id,timestamp,latitude,longitude,item_id"},
        [(0, 22847, 1.0)],
        [1287532527],
    ),
    "Epinions": Published(
        {"ratings_data.txt": lines("22605 42915 5")},
        "ratings_data.txt",
        {"delimiter": " ", "heading": "user_id,item_id,rating"},
        [(22605, 42915, 5.0)],
    ),
    "Anime": Published(
        {"rating.csv": lines("user_id,anime_id,rating", "1,20,-1"), "anime.csv": b"anime_id,name\n"},
        "rating.csv",
        {"item_column": "anime_id"},
        [(1, 20, -1.0)],
    ),
    "KuaiRec": Published(
        {
            "small_matrix.csv": lines(
                "user_id,video_id,play_duration,timestamp,watch_ratio", "14,148,4381,1593898570.8,0.72"
            )
        },
        "small_matrix.csv",
        {"item_column": "video_id", "rating_column": "watch_ratio"},
        [(14, 148, pytest.approx(0.72))],
        [1593898570],
    ),
    "Spark and Hive": Published(
        {
            "out/_SUCCESS": b"",
            "out/date=2024-01-01/.part-00000.csv.crc": b"\x01",
            "out/date=2024-01-01/part-00000.csv": lines("userId, movieId, rating", "1, 7, 3"),
            "out/date=2024-01-01/part-00001.csv": b"",
            "out/date=2024-01-02/part-00000.csv.gz": gzip.compress(lines("userId,movieId,rating", "2,8,4")),
        },
        "out",
        {"timestamp_column": "date"},
        [(1, 7, 3.0), (2, 8, 4.0)],
        [1704067200, 1704153600],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_as_it_is_published(layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, asked, options, rows, times = LAYOUTS[layout]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    monkeypatch.chdir(tmp_path)
    found = load_from_options(asked, **options)
    assert triples(found) == rows
    assert (None if found.timestamps is None else found.timestamps.tolist()) == times


def test_the_page_has_the_same_options() -> None:
    """Each row of the table begins with the name, and has the options that are tried here."""
    table = dict(re.findall(r"^\| ([^|]+?) \| [^|]+ \| (.*) \|$", DOCS.read_text(), re.MULTILINE))
    for layout, published in LAYOUTS.items():
        for option, value in published.options.items():
            shown = f"--{option.replace('_', '-')} "
            assert f"{shown}{value}" in table[layout] or f"{shown}'{value}'" in table[layout], layout


Convert = Callable[[Path], Any]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("jester.csv", b"7,99,-7.82,8.79" + 98 * b",99" + b"\n", r"102 cells.*as Jester's.*pandas\.read_csv"),
        ("steam_reviews.json", b"{u'user_id': u'a', u'items': []}\n", r"Python's dicts.*ast\.literal_eval"),
        ("BX.csv", "user_id;ISBN;rating\n1;é;5\n".encode("latin-1"), "--delimiter ';'"),
        ("ratings.dat", b"1::1193::5::978300760\n", "must end in"),
        (
            "letterboxd.csv",
            b"Date,Name,Year,Letterboxd URI,Rating\n2020-01-01,Heat,1995,https://x,4.5\n",
            "no column for user",
        ),
        (
            "imdb.csv",
            b"Const,Your Rating,Date Rated,Title\ntt0113277,9,2020-01-01,Heat\n",
            "no column for user",
        ),
    ],
)
def test_what_needs_a_conversion_says_which(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / name))


def test_the_conversions_work(tmp_path: Path) -> None:
    """Of Jester's matrix and of Python's dicts, as the page and the errors give them."""
    page = DOCS.read_text()
    jester = re.search(r"```python\n(import pandas.*?)```", page, re.DOTALL)
    assert jester
    (tmp_path / "jester.csv").write_text("2,99,-7.82,8.79\n1,3.5,99,99\n")
    subprocess.run([sys.executable, "-c", jester.group(1)], cwd=tmp_path, check=True)
    assert triples(load(str(tmp_path / "jester-ratings.csv"))) == [
        (0, 2, pytest.approx(-7.82)),
        (0, 3, pytest.approx(8.79)),
        (1, 1, 3.5),
    ]
