"""Text -> rows: quotes, blanks, line numbers, bytes that are no text; each line is read, refused or blank."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from serve.errors import InputError
from serve.reading import text
from serve.reading.rows import RefusedRow
from serve.reading.text import ATOMIC, CSV, TSV, Layout, TextSource

DAT = Layout("::", ("a", "b", "c"), quotes="none")
LAYOUTS = {"csv": CSV, "tsv": TSV, "semicolon": replace(CSV, delimiter=";"), "dat": DAT}


class Read:
    """All of a file: rows and their lines, refusals, blank lines."""

    def __init__(
        self, path: Path, content: bytes, layout: Layout = CSV, columns: list[str] | None = None
    ) -> None:
        path.write_bytes(content)
        self.rows: list[tuple[str, ...]] = []
        self.lines: list[int] = []
        self.refused: list[RefusedRow] = []
        self.n_blank = 0
        for rows in TextSource(path, layout).read(columns):
            self.rows += zip(*(column.to_pylist() for column in rows.table.columns), strict=True)
            self.lines += list(map(int, rows.numbers))
            self.refused += rows.refused
            self.n_blank += rows.n_blank


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text") / "some.csv"


# Pieces of which hostile files are made; each is likely to mean something to a reader of text.
PIECES = [
    *(b"a", b"1", b"007", b" ", b"\t", b",", b";", b"::", b":", b"\n", b"\r\n", b"\r", b'"', b'""', b"\xff"),
    *(b"\x00", b"\x1f", b"\xef\xbb\xbf", b"\xc3\xa9", b"\xc2\x85", b"a,b,c\n", b'"a","b","c"\n'),
    *(b"a\tb\tc\n", b'x,"y\nz",w\n', b"a::b::c\n", b"a;b;c\n", b'5" pipe', b' "x" '),
]
contents = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


def n_records(content: bytes, layout: Layout) -> int:
    """Records of what comes after the heading, blank ones too, counted in the slow, obvious way."""
    lines = content.decode(errors="surrogateescape").split("\n")
    lines = lines if lines[-1] else lines[:-1]
    if layout.quotes != "csv":
        return len(lines)
    reader = csv.reader((line + "\n" for line in lines), delimiter=layout.delimiter, skipinitialspace=True)
    return sum(1 for _ in reader)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(content=contents)
@settings(max_examples=150, deadline=None)
@example(content=b'1,1,"Unclosed\n2,2,Two\n3,3,Three\n1,2,"Two"\n')
@example(content=b"\xef\xbb\xbfa,b,c\n")
@example(content=b"a,b,c\r\n \n\n")
@example(content=b"\xef\xbb\xbf\xef\xbb\xbf")
def test_each_record_is_read_refused_or_blank(layout: str, content: bytes, path: Path) -> None:
    rules = LAYOUTS[layout]
    heading = b"" if rules.header else rules.delimiter.join("pqr").encode() + b"\n"
    try:
        read = Read(path, heading + content, rules)
    except InputError:
        # Only wrong quotes and carriage returns make it unclear where records end.
        assert b'"' in content or b"\r" in content
        assert rules.quotes == "csv"
        return
    if rules.header:
        content = content.removeprefix(b"\xef\xbb\xbf")
    assert len(read.rows) + len(read.refused) + read.n_blank == n_records(content, rules)
    lines = [*read.lines, *(row.line for row in read.refused)]
    assert None not in lines
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize("layout", LAYOUTS)
@given(content=contents)
@settings(max_examples=150, deadline=None)
def test_the_fast_path_and_the_slow_one_agree(layout: str, content: bytes, path: Path) -> None:
    rules = LAYOUTS[layout]
    path.write_bytes(b"" if rules.header else rules.delimiter.join("pqr").encode() + b"\n")
    source = TextSource(path, replace(rules, header=("p", "q", "r")))
    content = content.replace(b"::", text.SEPARATOR) if rules is DAT else content
    if not source._is_plain(content):
        return
    fast = source._by_arrow(content, 2, [0, 2])
    slow, unfinished = source._by_rules(content, 2, [0, 2], is_last=True)
    assert unfinished == b""
    assert fast.table.equals(slow.table)
    assert list(fast.numbers) == list(slow.numbers)
    assert (fast.refused, fast.n_blank) == (slow.refused, slow.n_blank)


@given(content=contents)
@settings(max_examples=50, deadline=None)
def test_where_blocks_end_makes_no_difference(content: bytes, path: Path) -> None:
    def read() -> Read | str:
        try:
            return Read(path, b"p,q,r\n" + content)
        except InputError as error:
            return str(error)

    whole = read()
    for size in (1, 2, 7):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(text, "BLOCK_BYTES", size)
            cut = read()
        if isinstance(whole, str) or isinstance(cut, str):
            assert whole == cut
        else:
            assert vars(whole) == vars(cut)


def test_the_csv_module_and_we_read_alike(path: Path) -> None:
    cells = ["a", "b,c", 'd"e', '"', '""', "f\ng", "", "two\r\nlines", 'say "hi"', "ü", "x" * 1000]
    rows = [(cell, other, "end") for cell in cells for other in cells]
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("p", "q", "r"), *rows])
    assert Read(path, path.read_bytes()).rows == rows


def test_lines_are_physical_ones(path: Path) -> None:
    read = Read(path, b'\n"a\nb",c\n\n1,"x\ny\nz"\n\n2,ok,4\n3,"x"\n')
    assert read.rows == [("1", "x\ny\nz"), ("3", "x")]
    assert read.lines == [5, 10]
    assert read.n_blank == 2
    (refused,) = read.refused
    assert (refused.line, refused.value, refused.reason) == (9, "2,ok,4", "3 cells where the heading has 2")
    assert str(refused) == f"{path}, line 9: '2,ok,4': 3 cells where the heading has 2"


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        (b" p , q\n 1 ,\t2 \n", [("1", "2")]),
        (b'p, q\n1, "a, b"\n" 2 ", c\n', [("1", "a, b"), ("2", "c")]),
        (b'p,q\n5" pipe, a"b\n', [('5" pipe', 'a"b')]),
        (b"p,q\n1,2\n   \n\t\n3,4", [("1", "2"), ("3", "4")]),
        (b"p\n 1\n \n2 \n", [("1",), ("2",)]),
        (b"\xef\xbb\xbfp,q\r\n\xef\xbb\xbf1,2\r\n", [("\ufeff1", "2")]),
        (b"p,q\n,\n", [("", "")]),
    ],
)
def test_blanks_quotes_and_marks(content: bytes, rows: list[tuple[str, ...]], path: Path) -> None:
    assert Read(path, content).rows == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'p,q\n1,a\n2,"open\n3,x\n', "line 3, a quote that opens a cell is never closed"),
        (b'p,"q\n1,a\n2,b\n', "line 1, a quote that opens a cell is never closed"),
        (b'p,q\n1,"x\n""y"""z\n', "line 2, a cell goes on after the quote"),
        (b'p,q\n1,a\n2,"a"b"c"\n', "line 3, a cell goes on after the quote"),
        (b'p,"q"r\n1,2\n', "line 1, a cell goes on after the quote"),
        (b"p,q\r1,2\r", "line 1, a carriage return stands alone"),
        (b"p,q\n1,2\r3,4\n", "line 2, a carriage return stands alone"),
        (b'p,q\n1,"' + b"x" * 200_000, "line 2, a quoted cell has more than 131,072 characters"),
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"p;q\n1;2\n", r"has no ',' between cells, but ';'.*--delimiter ';'"),
        (b"sep=;\r\np;q\r\n1;2\r\n", "begins with 'sep=;', a line for Excel: sed 1d"),
        (b"\xef\xbb\xbfsep=,\np,q\n1,2\n", "begins with 'sep=,', a line for Excel: sed 1d"),
        (b"p\tq\n1\t2\n", r"has no ',' between cells, but '\\t'.*--delimiter tab"),
        ("p,q\n1,2\n".encode("utf-16"), "is UTF-16, not UTF-8.*iconv"),
        ("p,q\n1,2\n".encode("utf-16-le"), "is UTF-16, not UTF-8.*iconv"),
        (b"p\xff,q\n1,2\n", r"heading is not UTF-8: p\\xff"),
    ],
)
def test_what_makes_the_whole_file_unreadable(content: bytes, message: str, path: Path) -> None:
    with pytest.raises(InputError, match=message):
        Read(path, content)


def test_a_record_without_end_is_refused_before_it_fills_the_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(text, "MAX_RECORD_BYTES", 10_000)
    with pytest.raises(InputError, match="line 2: a record of more than"):
        Read(path, b"p,q\n1," + b"x" * 20_000)


def test_bytes_that_are_no_text_matter_in_the_columns_that_are_read(path: Path) -> None:
    content = b"p,q\n1,\xff\n2,\xc3\xa9\n\xfe,3,4\n"
    read = Read(path, content)
    assert read.rows == [("2", "é")]
    assert [(row.line, row.column, row.value) for row in read.refused] == [
        (2, "q", "\\xff"),
        (4, None, "\\xfe,3,4"),
    ]
    assert Read(path, content, columns=["p"]).rows == [("1",), ("2",)]


def test_a_quote_is_text_where_the_layout_has_no_quoting(path: Path) -> None:
    names = [b'"Weird Al" Yankovic', b'"', b'The "5" Royales', b'"Unclosed', b'say ""hi""']
    content = b"p\tq\n" + b"".join(b"%d\t%s\n" % (n, name) for n, name in enumerate(names))
    expected = [(str(n), name.decode()) for n, name in enumerate(names)]
    assert Read(path, content, TSV).rows == expected
    assert Read(path, content, ATOMIC).rows == expected


def test_cells_that_are_quoted_as_a_whole_lose_their_quotes_in_tsv(path: Path) -> None:
    content = b'"p"\t"q"\n"1"\t"say ""hi"""\n"2"\tx\n'
    assert Read(path, content, TSV).rows == [("1", 'say "hi"'), ("2", "x")]


def test_types_in_a_heading(path: Path) -> None:
    path.write_bytes(b"user_id:token\tclass:token_seq\nann\tx y\n")
    source = TextSource(path, ATOMIC)
    assert source.schema.names == ["user_id", "class"]
    assert source.types == {"user_id": "token", "class": "token_seq"}


def test_latin_1(path: Path) -> None:
    layout = Layout("|", ("p", "q"), quotes="none", encoding="latin-1")
    assert Read(path, b"1|Mis\xe9rables\x85\n", layout).rows == [("1", "Misérables\x85")]


@pytest.mark.parametrize("layout", [CSV, TSV, ATOMIC])
def test_a_heading_within_the_rows_is_refused(layout: Layout, path: Path) -> None:
    content = b"u,i\n1,2\nu,i\r\n3,4\nui,i\nu,i".replace(b",", layout.delimiter.encode())
    read = Read(path, content, layout)
    assert read.rows == [("1", "2"), ("3", "4"), ("ui", "i")]
    assert [(row.line, row.reason) for row in read.refused] == [(n, "the heading again") for n in (3, 6)]


def test_carriage_returns_end_lines_or_are_refused(path: Path) -> None:
    content = b"a\tb\r\r\n1\t2\r\r\n3\t4\r5\n6\r7\t8\n"
    read = Read(path, content, TSV, ["b"])
    assert (read.rows, read.lines) == ([("2",), ("8",)], [2, 4])  # the other column isn't asked for
    assert [row.what for row in read.refused] == [r"b '4\r5': a carriage return stands alone"]
    with pytest.raises(InputError, match="in its heading, a carriage return stands alone"):
        Read(path, b"a\tb\r1\t2\r", TSV)
