"""Which tensors an ONNX file holds and where their bytes lie, read from the wire format without onnx.

A bundle is checked before ONNX Runtime sees it, and serving installs no onnx. This module reads the part of
protobuf that the check needs, and of ONNX the fields that an export writes (`FIELDS`). A field that is not
listed is refused: subgraphs, sparse tensors, functions, `float_data` and the like. So is what two protobuf
parsers may read differently: a singular field that comes twice, groups, oversized numbers. Field numbers are
those of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

from serve.errors import BundleError

Buffer = bytes | memoryview

# Far above the graphs of an export (a few hundred fields, and the strings of ids), far below what would stall
# a reader.
MAX_FIELDS = 1_000_000
MAX_RANK = 16
MAX_NAME_BYTES = 4096

VARINT, BYTES, FIXED32 = 0, 2, 5
Kind = tuple[tuple[int, ...], bool]
"""Wire types, and whether the field may repeat. Repeated numbers may be packed into BYTES."""
NUMBER: Kind = (VARINT,), False
NUMBERS: Kind = (VARINT, BYTES), True
FLOAT: Kind = (FIXED32,), False
REPEATED_FLOAT: Kind = (FIXED32, BYTES), True
BLOCK: Kind = (BYTES,), False
BLOCKS: Kind = (BYTES,), True

# message -> field number -> kind of the field: all that an export writes.
FIELDS: dict[str, dict[int, Kind]] = {
    "ModelProto": {1: NUMBER, 5: NUMBER, 8: BLOCKS, 14: BLOCKS} | dict.fromkeys((2, 3, 4, 6, 7), BLOCK),
    "GraphProto": {2: BLOCK, 10: BLOCK} | dict.fromkeys((1, 5, 11, 12, 13, 16), BLOCKS),
    "NodeProto": dict.fromkeys((3, 4, 6, 7, 8), BLOCK) | dict.fromkeys((1, 2, 5, 9), BLOCKS),
    "AttributeProto": {2: FLOAT, 3: NUMBER, 7: REPEATED_FLOAT, 8: NUMBERS, 9: BLOCKS, 20: NUMBER}
    | dict.fromkeys((1, 4, 5, 13), BLOCK),
    "TensorProto": {1: NUMBERS, 2: NUMBER, 14: NUMBER}
    | dict.fromkeys((8, 9, 12), BLOCK)
    | dict.fromkeys((6, 13, 16), BLOCKS),
    "StringStringEntryProto": {1: BLOCK, 2: BLOCK},
}
# message -> field number -> the message inside, where tensors may lie.
INSIDE = {
    "ModelProto": {7: "GraphProto"},
    "GraphProto": {1: "NodeProto", 5: "TensorProto"},
    "NodeProto": {5: "AttributeProto"},
    "AttributeProto": {5: "TensorProto"},
}

# TensorProto.DataType -> (name, bits of an element). Float8 and complex tensors have no place in a bundle.
DATA_TYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    16: ("bfloat16", 16),
    21: ("uint4", 4),
    22: ("int4", 4),
}
BITS = dict(DATA_TYPES.values())
FLOATS = {"float32", "float64", "float16", "bfloat16"}


class External(NamedTuple):
    """Where a tensor's bytes lie outside the ONNX file. The values are not checked against any file."""

    location: str
    offset: int
    length: int | None


@dataclass(frozen=True)
class WireTensor:
    """A tensor (or a float attribute) and where its bytes lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    """The first byte of the data in the ONNX file."""
    stop: int
    """One past its last byte; `start` where the data is strings, external, or empty."""
    external: External | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole tensor; strings count as 0."""
        return (math.prod(self.shape) * BITS[self.dtype] + 7) // 8


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    value: int
    """The value of a varint; of other types, the first byte of the content."""
    stop: int
    """One past the content."""


def read_tensors(data: Buffer, source: str, fields: Iterator[int] | None = None) -> list[WireTensor]:
    """Find every tensor of a serialized ModelProto: initializers, and tensors and floats in attributes.

    Args:
        data: The file's bytes; a memoryview of a mapped file is read only where it must be.
        source: The file's name, for the errors.
        fields: Counts the fields that are read, up to `MAX_FIELDS`; files may share a counter.

    Raises:
        BundleError: the bytes are not a whole, unambiguous ModelProto, or hold a field that no export writes.
    """
    reader = _WireReader(data, count(1) if fields is None else fields)
    try:
        tensors = list(reader.tensors("ModelProto", 0, len(data)))
        if not reader.saw_graph:
            raise _WireError("it holds no graph")
    except _WireError as error:
        raise BundleError(f"{source} is not a valid ONNX file: {error}. Export or copy it again.") from None
    return tensors


class _WireError(Exception):
    """What is wrong with the bytes; becomes a BundleError that names the file."""


class _WireReader:
    """Reads the messages of one file."""

    def __init__(self, data: Buffer, fields: Iterator[int]) -> None:
        self.data = data
        self.n_fields = fields
        self.saw_graph = False

    def tensors(self, message: str, start: int, stop: int) -> Iterator[WireTensor]:
        """The tensors in the message at [start, stop). Messages nest four deep at most (`INSIDE`)."""
        if message == "TensorProto":
            yield self._tensor(start, stop)
            return
        self.saw_graph |= message == "GraphProto"
        for field in self._fields(message, start, stop):
            if message == "AttributeProto" and field.number in (2, 7):  # constants, checked like tables
                n = (field.stop - field.value) // 4
                if n * 4 != field.stop - field.value:
                    raise _WireError(f"a float attribute is malformed at byte {field.value}")
                yield WireTensor("a float attribute", "float32", (n,), field.value, field.stop)
            elif child := INSIDE[message].get(field.number):
                yield from self.tensors(child, field.value, field.stop)

    def _tensor(self, start: int, stop: int) -> WireTensor:
        """Read one TensorProto: one kind of data, as long as the shape says."""
        shape: list[int] = []
        once: dict[int, Field] = {}
        entries: dict[str, str] = {}
        n_strings = 0
        for field in self._fields("TensorProto", start, stop):
            if field.number == 1:
                shape.extend(self._numbers(field))
            elif field.number == 6:
                n_strings += 1
            elif field.number == 13:
                parts = self._fields("StringStringEntryProto", field.value, field.stop)
                entry = {part.number: self._text(part) for part in parts}
                if entry.get(1, "") in entries:
                    raise _WireError(f"external data names {entry.get(1, '')!r} twice")
                entries[entry.get(1, "")] = entry.get(2, "")
            else:
                once[field.number] = field
        name = self._text(once[8]) if 8 in once else ""
        code = once[2].value if 2 in once else 0
        if code not in DATA_TYPES:
            raise _WireError(f"tensor {name!r} has the data type {code}, which has no place in a bundle")
        dtype = DATA_TYPES[code][0]
        if len(shape) > MAX_RANK or any(size >= 1 << 63 for size in shape):
            raise _WireError(f"tensor {name!r} has the impossible shape {shape[:MAX_RANK]}")
        is_external = 14 in once and once[14].value != 0
        if (9 in once) + (n_strings > 0) + is_external > 1 or is_external != bool(entries):
            raise _WireError(f"tensor {name!r} has contradicting places for its data")
        if is_external:
            return WireTensor(name, dtype, tuple(shape), 0, 0, _external(name, entries))
        begin, end = (once[9].value, once[9].stop) if 9 in once else (0, 0)
        found = WireTensor(name, dtype, tuple(shape), begin, end)
        n, expected = (n_strings, math.prod(shape)) if dtype == "string" else (end - begin, found.n_bytes)
        if n != expected:
            unit = "strings" if dtype == "string" else "bytes"
            raise _WireError(f"tensor {name!r} has {n} {unit}, its shape asks for {expected}")
        return found

    def _text(self, field: Field) -> str:
        if field.stop - field.value > MAX_NAME_BYTES:
            raise _WireError(f"a name has {field.stop - field.value} bytes, more than {MAX_NAME_BYTES}")
        try:
            return bytes(self.data[field.value : field.stop]).decode()
        except UnicodeDecodeError:
            raise _WireError(f"a name at byte {field.value} is not UTF-8") from None

    def _numbers(self, field: Field) -> Iterator[int]:
        """The numbers of a repeated varint field, packed or not."""
        if field.wire_type == VARINT:
            yield field.value
            return
        position = field.value
        while position < field.stop:
            if position - field.value > 10 * MAX_RANK:
                raise _WireError(f"a shape has more than {MAX_RANK} dimensions")
            value, position = self._varint(position, field.stop)
            yield value

    def _fields(self, message: str, start: int, stop: int) -> Iterator[Field]:
        """The fields of the message at [start, stop), each of them one of `FIELDS`."""
        position, seen = start, set()
        while position < stop:
            if next(self.n_fields) > MAX_FIELDS:
                raise _WireError(f"it has more than {MAX_FIELDS} fields, with the graphs before it")
            at = position
            tag, position = self._varint(position, stop)
            number, wire_type = tag >> 3, tag & 7
            wire_types, repeats = FIELDS[message].get(number, ((), False))
            if wire_type not in wire_types:
                what = f"field {number} (wire type {wire_type}) at byte {at}"
                raise _WireError(f"{message} has {what}, which no export writes")
            if not repeats and number in seen:
                raise _WireError(f"{message} has field {number} twice")
            seen.add(number)
            if wire_type == VARINT:
                value, position = self._varint(position, stop)
                yield Field(number, wire_type, value, position)
                continue
            size = 4
            if wire_type == BYTES:
                size, position = self._varint(position, stop)
            if size > stop - position:
                raise _WireError(f"{size} bytes are announced at byte {at}, {stop - position} are left")
            yield Field(number, wire_type, position, position + size)
            position += size

    def _varint(self, position: int, stop: int) -> tuple[int, int]:
        """An unsigned number of at most 64 bits, and the position behind it."""
        value = 0
        for place, byte in enumerate(self.data[position : min(stop, position + 10)]):
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80 and value < 1 << 64:
                return value, position + place + 1
        raise _WireError(f"the number at byte {position} is cut off, or does not fit 64 bits")


def _external(name: str, entries: dict[str, str]) -> External:
    if unknown := entries.keys() - {"location", "offset", "length", "checksum"}:
        raise _WireError(f"tensor {name!r} has the external entry {min(unknown)!r}, which no export writes")
    numbers = {key: entries[key] for key in ("offset", "length") if key in entries}
    for key, text in numbers.items():
        # int() would also take "1_0", " 1" and other scripts' digits, which a runtime reads differently.
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise _WireError(f"tensor {name!r} has the external {key} {text!r}, which is not a number")
    length = int(numbers["length"]) if "length" in numbers else None
    return External(entries.get("location", ""), int(numbers.get("offset", 0)), length)
