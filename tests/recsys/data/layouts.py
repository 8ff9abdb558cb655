"""The same three ratings of three items, in every layout that is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

Make = Callable[..., Path]
"""(members, folder="") -> the zip, or the folder, that holds them."""

# Written with other line endings, an "é" in Latin-1, and a title with the delimiter's half in it.
U_DATA = {
    "u.data": b"196\t242\t3\t881250949\n186\t302\t3.5\t891717742\n196\t302\t1\t881250950\n",
    "u.item": b"242|Kolya (1996)|24-Jan-1997||http://x|0|0|1\r\n"
    b"302|L.A. Confidential (1997)|01-Jan-1997||http://x|0|1|1\r\n"
    b"7|Mis\xe9rables, Les (1995)|01-Jan-1995||http://x|1|0|0\r\n",
    "u.genre": b"unknown|0\nCrime|1\nComedy|2\n\n",
}
RATINGS_DAT = {
    "ratings.dat": b"196::242::3::881250949\n186::302::3.5::891717742\n196::302::1::881250950\n",
    "movies.dat": b"7::Mis\xe9rables, Les (1995)::Drama\n242::Kolya (1996)::Comedy\n"
    b"302::L.A.: Confidential (1997)::Crime|Comedy\n",
}
RATINGS_CSV = {
    "ratings.csv": b"userId,movieId,rating,timestamp\r\n"
    b"196,242,3.0,881250949\r\n186,302,3.5,891717742\r\n196,302,1.0,881250950\r\n",
    "movies.csv": "movieId,title,genres\r\n242,Kolya (1996),Comedy\r\n"
    '302,"L.A., Confidential (1997)",Crime|Comedy\r\n'
    "7,Misérables (1995–1999),(no genres listed)\r\n".encode(),
}
KAGGLE_20M = {
    "rating.csv": b'"userId","movieId","rating","timestamp"\n'
    b'196,242,3.0,"1997-12-04 15:55:49"\n'
    b'186,302,3.5,"1998-04-04 19:22:22"\n196,302,1.0,"1997-12-04 15:55:50"\n',
    "movie.csv": RATINGS_CSV["movies.csv"],
}
ATOMIC = {
    "tiny.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    b"196\t242\t3\t881250949\n186\t302\t3.5\t891717742.0\n196\t302\t1\t881250950\n",
    "tiny.item": b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    b"242\tKolya\t1996\tComedy\n"
    b'302\tL.A. "Confidential"\t1997\tCrime Comedy\n7\tLes Mis\xc3\xa9rables\t1995\t\n',
}
LAYOUTS = {
    "u.data": U_DATA,
    "ratings.dat": RATINGS_DAT,
    "ratings.csv": RATINGS_CSV,
    "kaggle 20m": KAGGLE_20M,
    "atomic": ATOMIC,
}
