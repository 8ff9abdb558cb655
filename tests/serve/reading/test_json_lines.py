"""JSON lines -> rows: numbers as they are written, keys that come and go, lines that hold no object."""

from __future__ import annotations

from pathlib import Path

import pytest

from serve.errors import InputError
from serve.reading.json_lines import JsonLinesSource
from serve.reading.rows import RefusedRow


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.jsonl"


def read(
    path: Path, content: bytes, columns: list[str] | None = None
) -> tuple[list[tuple[str, ...]], list[int], list[RefusedRow], int]:
    path.write_bytes(content)
    parts = list(JsonLinesSource(path).read(columns))
    rows = [row for part in parts for row in zip(*part.table.to_pydict().values(), strict=True)]
    numbers = [int(number) for part in parts for number in part.numbers]
    return rows, numbers, [row for part in parts for row in part.refused], sum(part.n_blank for part in parts)


def test_values_are_as_they_are_written(path: Path) -> None:
    content = (
        b'\xef\xbb\xbf{"a": "007", "b": 4.50, "c": 12345678901234567890123}\r\n\n'
        b'{"b": null, "a": " x ", "c": true}\n{"c": [1, "\xc3\xa9"], "a": "\\u00e9\\n"}\n{"a": NaN}'
    )
    rows, numbers, refused, n_blank = read(path, content)
    assert rows == [
        ("007", "4.50", "12345678901234567890123"),
        ("x", "", "true"),
        ("é\n", "", '[1, "é"]'),
        ("NaN", "", ""),
    ]
    assert (numbers, refused, n_blank) == ([1, 3, 4, 5], [], 1)


def test_lists_and_objects_are_as_they_are_written_beside_what_json_does_not_have(path: Path) -> None:
    inner = b'{"d": [1.50, NaN, "{\\u007d, \\"a\\":"]}'
    content = b'{ "x" :[], "\\u0061" :\t' + inner + b' , "b": {} }\n{"x": "\xff", "a":[1, 2.0],"b": 1}\n'
    rows, _, refused, _ = read(path, content, ["a", "b"])
    assert rows == [(inner.decode(), "{}"), ("[1, 2.0]", "1")]
    assert not refused


def test_lines_that_hold_no_object_are_refused_by_their_number(path: Path) -> None:
    bad = {
        2: b"[1, 2]",
        3: b'{"a": 1, "a": 2}',
        4: b'{"a": 1',
        5: b'{"a": "\xff"}',
        6: b'{"a": "\\ud800"}',
        7: b"[" * 100_000,
        8: b'{"a": 1} {"a": 2}',
        9: b'{"a": +5}',
        10: b"{'a': 5}",
    }
    rows, numbers, refused, _ = read(path, b"\n".join([b'{"a": 1}', *bad.values(), b'{"a": 2}']))
    assert (rows, numbers) == ([("1",), ("2",)], [1, 11])
    assert [row.line for row in refused] == list(bad)
    assert [row.reason for row in refused if row.column == "a"] == ["not UTF-8"] * 2
    assert all(len(str(row.value)) <= 201 for row in refused)


def test_a_key_that_comes_late_is_refused_where_all_are_read(path: Path) -> None:
    long = b'{"a": 1, "b": "' + 2000 * b"x" + b'"}\n'
    early = long * 600  # more than what is looked at for the names
    late = b'{"a": 3, "b": 4, "c": 5}\n{"b": 6}\n'
    rows, _, refused, _ = read(path, early + late)
    assert len(rows) == 601
    assert rows[-1] == ("", "6")
    assert [(row.line, row.reason) for row in refused] == [
        (601, "a key that the first lines do not have: 'c'")
    ]
    assert len(read(path, early + late, ["a"])[0]) == 602


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b'[{"a": 1},\n{"a": 2}]', r"one JSON document.*jq -c '\.\[\]'"),
        (b'[\n{"a": 1},\n{"a": 2}\n]\n', r"one JSON document.*jq -c '\.\[\]'"),
        (b'{\n  "a": 1\n}', "one JSON document"),
        (b"{'a': u'x'}\n", "Python's dicts.*ast.literal_eval"),
        (b"a,b\n1,2\n", "does not begin with JSON objects"),
        ('{"a": 1}\n'.encode("utf-16"), "is UTF-16, not UTF-8"),
    ],
)
def test_what_is_not_json_lines(path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(path, content)
