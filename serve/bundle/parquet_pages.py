"""What a Parquet file says of itself before it is decoded: its fields, and the pages of a column.

The metadata in the footer may claim anything, and pyarrow decodes by what the pages say. So the headers of
the pages are read here (Thrift's compact protocol), and compared with the footer and the file's bytes.
Allowed is what `write_columns` writes: data pages of version 1, plain or by a dictionary, Snappy or nothing.
Encodings of differences are not: a few bytes of them are any number of values, or of characters.

Source: https://github.com/apache/parquet-format (parquet.thrift, Encodings.md)
"""

from __future__ import annotations

from typing import Any

MAX_COLUMNS = 64
MAX_HEADER_BYTES = 64 << 10
"""Of a page: its statistics hold a lowest and a highest value."""
MAX_DEPTH = 4
SNAPPY_RATIO = 24
"""Its copies are at most 64 bytes for 3; the rest is for the small pages' sake."""
DATA_PAGE, DICTIONARY_PAGE = 0, 2
PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY = 0, 2, 8
VALUE_BYTES = {"INT32": 4, "INT64": 8, "FLOAT": 4, "BYTE_ARRAY": 4}
"""The least that a plain value takes."""

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class PageError(Exception):
    """What is wrong with a file; `ParquetTable` makes a BundleError of it."""


def check_schema(footer: bytes) -> None:
    """Check that a footer, of which the beginning is enough, names few fields. Raises PageError."""
    reader = _Thrift(footer, 0, len(footer))
    n_fields = 0
    for number, kind in reader.fields():
        if number == 2 and kind == _LIST:  # FileMetaData.schema
            n_fields, _ = reader.list_header()
            break
        reader.value(kind)
    if not 1 < n_fields <= MAX_COLUMNS + 1:  # the root is one of them
        raise PageError(f"its schema has {n_fields} fields, not 2 to {MAX_COLUMNS + 1}")


def check_pages(data: memoryview, column: Any, n_rows: int) -> None:
    """Check the pages of a column of a row group of `n_rows` rows before they are decoded.

    Args:
        data: The whole file.
        column: pyarrow's ColumnChunkMetaData.
        n_rows: Rows of the row group.

    Raises:
        PageError: other rows, encodings or sizes than a bundle's file has.
    """
    if column.compression not in ("SNAPPY", "UNCOMPRESSED"):
        raise PageError(f"{column.path_in_schema} is compressed by {column.compression}, not by SNAPPY")
    has_dictionary = column.has_dictionary_page
    start = column.dictionary_page_offset if has_dictionary else column.data_page_offset
    stop = start + column.total_compressed_size
    if not 4 <= start <= column.data_page_offset < stop <= len(data) or column.num_values != n_rows:
        raise PageError(f"{column.path_in_schema} lies at {start} to {stop}, or has not {n_rows} values")
    n_values, position = 0, start
    while position < stop:
        reader = _Thrift(data, position, min(stop, position + MAX_HEADER_BYTES))
        header = reader.struct()
        n, kind = _page(header, column, is_first=position == start)
        n_values += n if kind == DATA_PAGE else 0
        size, full = _count(header, 3), _count(header, 2)
        ratio = SNAPPY_RATIO if column.compression == "SNAPPY" else 1
        if full > ratio * size + (1 << 10):
            raise PageError(f"a page of {column.path_in_schema} has {size} bytes for {full}")
        if kind == DICTIONARY_PAGE and n * VALUE_BYTES[column.physical_type] > full:
            raise PageError(f"a dictionary of {column.path_in_schema} has {n} values in {full} bytes")
        position = reader.position + size
    if position != stop or n_values != n_rows:
        raise PageError(f"{column.path_in_schema} has {n_values} values in pages, {n_rows} in the footer")


def _page(header: dict[int, Any], column: Any, *, is_first: bool) -> tuple[int, int]:
    """Number of values and kind of a page, from its PageHeader."""
    kind = header.get(1)
    details = header.get(5 if kind == DATA_PAGE else 7)
    if kind not in (DATA_PAGE, DICTIONARY_PAGE) or not isinstance(details, dict):
        raise PageError(f"{column.path_in_schema} has a page of the kind {kind}")
    if (kind == DICTIONARY_PAGE) != (is_first and column.has_dictionary_page):
        raise PageError(f"{column.path_in_schema} has a dictionary in the wrong place")
    n, encoding = _count(details, 1), details.get(2)
    allowed = {PLAIN, PLAIN_DICTIONARY, RLE_DICTIONARY} if column.has_dictionary_page else {PLAIN}
    if encoding not in allowed:
        raise PageError(f"a page of {column.path_in_schema} has {n} values in the encoding {encoding}")
    return n, kind


def _count(header: dict[int, Any], number: int) -> int:
    value = header.get(number)
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise PageError(f"a header has {value} where a count is meant")
    return value


class _Thrift:
    """Reads Thrift's compact protocol between two positions. Everything that is not that is a PageError."""

    def __init__(self, data: bytes | memoryview, position: int, stop: int) -> None:
        self.data = data
        self.position = position
        self.stop = stop
        self._depth = 0

    def struct(self) -> dict[int, Any]:
        """The fields of a struct, by number."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise PageError("a header nests too deep")
        found = {number: self.value(kind) for number, kind in self.fields()}
        self._depth -= 1
        return found

    def fields(self) -> Any:
        """Number and kind of each field of a struct; the caller reads the value."""
        number = 0
        while tag := self._byte():
            delta, kind = tag >> 4, tag & 0xF
            number = number + delta if delta else self._zigzag()
            yield number, kind

    def value(self, kind: int) -> Any:
        """A value; the content of text, lists and doubles is skipped."""
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind == _DOUBLE:
            return self._skip(8)
        if kind == _BINARY:
            return self._skip(self._varint())
        if kind in (_LIST, _SET):
            size, element = self.list_header()
            for _ in range(size):
                self._byte() if element in (_TRUE, _FALSE) else self.value(element)
            return None
        if kind == _STRUCT:
            return self.struct()
        raise PageError(f"a header has a field of the kind {kind}")

    def list_header(self) -> tuple[int, int]:
        """Number and kind of the elements of a list."""
        head = self._byte()
        size = head >> 4
        return (self._varint() if size == 0xF else size), head & 0xF

    def _byte(self) -> int:
        if self.position >= self.stop:
            raise PageError("a header is cut off")
        self.position += 1
        return int(self.data[self.position - 1])

    def _skip(self, n: int) -> None:
        if n > self.stop - self.position:
            raise PageError("a header is cut off")
        self.position += n

    def _varint(self) -> int:
        value = 0
        for place in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << place
            if byte < 0x80:
                return value
        raise PageError("a header has a number that never ends")

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
