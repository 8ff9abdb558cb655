"""Which tensors an ONNX file holds and where their bytes lie, read from the wire format without onnx.

A bundle is looked through before ONNX Runtime sees it, and serving installs no onnx; so this is the small
part of protobuf that the question needs, and of ONNX what an export writes: values in `raw_data`, in external
data, or strings. Everything else is refused, and so is what one protobuf parser may read differently from
another (a singular field that comes twice, groups, oversized numbers). Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from serve.errors import BundleError

Buffer = bytes | memoryview

# Far above every graph of ours (a few hundred fields, and the strings of ids), far below what would stall a
# reader.
MAX_FIELDS = 1_000_000
MAX_RANK = 16
MAX_NAME_BYTES = 4096

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

# message -> field number -> (message inside, may it repeat)
MESSAGES: dict[str, dict[int, tuple[str, bool]]] = {
    "ModelProto": {7: ("GraphProto", False)},
    "GraphProto": {1: ("NodeProto", True), 5: ("TensorProto", True)},
    "NodeProto": {5: ("AttributeProto", True)},
    "AttributeProto": {5: ("TensorProto", False)},
}
# message -> field number -> what an export never writes there: other places and encodings of tensors.
REFUSED: dict[str, dict[int, str]] = {
    "ModelProto": {20: "training information", 25: "functions"},
    "GraphProto": {15: "a sparse tensor"},
    "AttributeProto": {
        6: "a subgraph",
        10: "a list of tensors",
        11: "subgraphs",
        22: "a sparse tensor",
        23: "sparse tensors",
    },
    "TensorProto": {
        3: "a segment",
        4: "float_data",
        5: "int32_data",
        7: "int64_data",
        10: "double_data",
        11: "uint64_data",
    },
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
FLOATS = {"float32", "float64", "float16", "bfloat16"}


@dataclass(frozen=True)
class External:
    """Where a tensor's bytes lie outside the ONNX file. Nothing of it has been checked."""

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
    external: External | None

    @property
    def n_bytes(self) -> int:
        """Bytes of the whole tensor; strings count as 0."""
        bits = next(bits for name, bits in DATA_TYPES.values() if name == self.dtype)
        return (math.prod(self.shape) * bits + 7) // 8


class _Field(NamedTuple):
    number: int
    wire_type: int
    value: int
    """A varint's value; else the first byte of the content."""
    stop: int
    """One past the content."""


def read_tensors(data: Buffer, source: str) -> list[WireTensor]:
    """Find every tensor of a serialized ModelProto: initializers, and tensors and floats in attributes.

    Args:
        data: The file's bytes; a memoryview of a mapped file is read only where it must be.
        source: The file's name, for the errors.

    Raises:
        BundleError: the bytes are not a whole, unambiguous ModelProto, or hold a tensor in a place or an
            encoding that no export writes.
    """
    try:
        return list(_Walk(data).tensors())
    except _WireError as error:
        raise BundleError(f"{source} is not a valid ONNX file: {error}. Export or copy it again.") from None


class _WireError(Exception):
    """What is wrong with the bytes; becomes a BundleError that names the file."""


class _Walk:
    """One pass over a file."""

    def __init__(self, data: Buffer) -> None:
        self.data = data
        self.n_fields = 0

    def tensors(self) -> Iterator[WireTensor]:
        stack = [("ModelProto", 0, len(self.data))]
        saw_graph = False
        while stack:
            message, start, stop = stack.pop()
            if message == "TensorProto":
                yield self.tensor(start, stop)
                continue
            once = set()
            for field in self.fields(start, stop):
                _refuse(message, field)
                if message == "AttributeProto" and field.number in (2, 7):
                    yield self.float_attribute(field)
                if field.number not in MESSAGES[message]:
                    continue
                child, repeats = MESSAGES[message][field.number]
                _expect(field, BYTES, f"{message}.{child}")
                if not repeats and field.number in once:
                    raise _WireError(f"{message} has two {child} where one may be")
                once.add(field.number)
                saw_graph |= child == "GraphProto"
                stack.append((child, field.value, field.stop))
        if not saw_graph:
            raise _WireError("it holds no graph")

    def float_attribute(self, field: _Field) -> WireTensor:
        """`f` and `floats`: constants like any other, so their values are looked at like any other's."""
        if field.wire_type not in (FIXED32, BYTES) or (field.stop - field.value) % 4:
            raise _WireError(f"a float attribute is malformed at byte {field.value}")
        n = (field.stop - field.value) // 4
        return WireTensor("a float attribute", "float32", (n,), field.value, field.stop, None)

    def tensor(self, start: int, stop: int) -> WireTensor:
        """Read one TensorProto. Its numbers must add up: one kind of data, as long as the shape says."""
        shape: list[int] = []
        once: dict[int, _Field] = {}
        entries: dict[str, str] = {}
        n_strings = 0
        for field in self.fields(start, stop):
            _refuse("TensorProto", field)
            if field.number == 1:
                shape.extend(self.varints(field))
            elif field.number == 6:
                n_strings += 1
            elif field.number == 13:
                key, value = self.entry(field)
                if key in entries:
                    raise _WireError(f"external data names {key!r} twice")
                entries[key] = value
            elif field.number in (2, 8, 9, 14):
                if field.number in once:
                    raise _WireError(f"a tensor has its field {field.number} twice")
                once[field.number] = field
        name = self.text(once[8]) if 8 in once else ""
        dtype = self.dtype(name, once.get(2))
        if len(shape) > MAX_RANK or any(size >= 1 << 63 for size in shape):
            raise _WireError(f"tensor {name!r} has the impossible shape {shape[:MAX_RANK]}")
        location = once.get(14)
        is_external = location is not None and _expect(location, VARINT, "data_location").value != 0
        kinds = (9 in once) + (n_strings > 0) + (is_external or bool(entries))
        if kinds > 1 or is_external != bool(entries):
            raise _WireError(f"tensor {name!r} has data in more than one place, or says so only half")
        if is_external:
            return WireTensor(name, dtype, tuple(shape), 0, 0, _external(name, entries))
        raw = _expect(once[9], BYTES, "raw_data") if 9 in once else None
        start, stop = (raw.value, raw.stop) if raw is not None else (0, 0)
        found = WireTensor(name, dtype, tuple(shape), start, stop, None)
        if dtype == "string":
            self.same_size(name, n_strings, math.prod(shape), "strings")
        self.same_size(name, stop - start, found.n_bytes, "bytes")
        return found

    def same_size(self, name: str, found: int, expected: int, unit: str) -> None:
        if found != expected:
            raise _WireError(f"tensor {name!r} has {found} {unit}, its shape asks for {expected}")

    def dtype(self, name: str, field: _Field | None) -> str:
        code = 0 if field is None else _expect(field, VARINT, "data_type").value
        if code not in DATA_TYPES:
            raise _WireError(f"tensor {name!r} has the data type {code}, which has no place in a bundle")
        return DATA_TYPES[code][0]

    def entry(self, field: _Field) -> tuple[str, str]:
        """A StringStringEntryProto."""
        _expect(field, BYTES, "external_data")
        parts: dict[int, str] = {}
        for part in self.fields(field.value, field.stop):
            if part.number in (1, 2):
                if part.number in parts:
                    raise _WireError("an entry of external_data has two keys or values")
                parts[part.number] = self.text(part)
        return parts.get(1, ""), parts.get(2, "")

    def text(self, field: _Field) -> str:
        _expect(field, BYTES, "a name")
        if field.stop - field.value > MAX_NAME_BYTES:
            raise _WireError(f"a name has {field.stop - field.value} bytes, more than {MAX_NAME_BYTES}")
        try:
            return bytes(self.data[field.value : field.stop]).decode()
        except UnicodeDecodeError:
            raise _WireError(f"a name at byte {field.value} is not UTF-8") from None

    def varints(self, field: _Field) -> Iterator[int]:
        """The numbers of a repeated varint field, packed or not."""
        if field.wire_type == VARINT:
            yield field.value
            return
        _expect(field, BYTES, "a list of numbers")
        position = field.value
        while position < field.stop:
            if position - field.value > 10 * MAX_RANK:
                raise _WireError(f"a shape has more than {MAX_RANK} dimensions")
            value, position = self.varint(position, field.stop)
            yield value

    def fields(self, start: int, stop: int) -> Iterator[_Field]:
        """The fields of the message at [start, stop)."""
        position = start
        while position < stop:
            self.n_fields += 1
            if self.n_fields > MAX_FIELDS:
                raise _WireError(f"it has more than {MAX_FIELDS} fields")
            at = position
            tag, position = self.varint(position, stop)
            number, wire_type = tag >> 3, tag & 7
            if not 0 < number < 1 << 29:
                raise _WireError(f"the field number {number} at byte {at} is impossible")
            if wire_type == VARINT:
                value, position = self.varint(position, stop)
                yield _Field(number, wire_type, value, position)
                continue
            if wire_type == BYTES:
                size, position = self.varint(position, stop)
            elif wire_type in (FIXED32, FIXED64):
                size = 4 if wire_type == FIXED32 else 8
            else:
                raise _WireError(f"the wire type {wire_type} at byte {at} is not one of ONNX")
            if size > stop - position:
                raise _WireError(f"{size} bytes are announced at byte {at}, {stop - position} are left")
            yield _Field(number, wire_type, position, position + size)
            position += size

    def varint(self, position: int, stop: int) -> tuple[int, int]:
        """An unsigned number and the position behind it."""
        value = shift = 0
        while position < stop:
            byte = self.data[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                return value, position
            shift += 7
            if shift > 63:
                break
        else:
            raise _WireError(f"a number is cut off at byte {position}")
        raise _WireError(f"a number at byte {position} does not fit 64 bits")


def _refuse(message: str, field: _Field) -> None:
    if what := REFUSED.get(message, {}).get(field.number):
        raise _WireError(f"{message} has {what} at byte {field.value}, which no export writes")


def _expect(field: _Field, wire_type: int, what: str) -> _Field:
    if field.wire_type != wire_type:
        raise _WireError(f"{what} has the wire type {field.wire_type} at byte {field.value}")
    return field


def _external(name: str, entries: dict[str, str]) -> External:
    def number(key: str) -> int | None:
        text = entries.get(key)
        if text is None:
            return None
        # int() would also take "1_0", " 1" and other scripts' digits, which a runtime reads differently.
        if not (text.isascii() and text.isdigit() and len(text) <= 19):
            raise _WireError(f"tensor {name!r} has the external {key} {text!r}, which is not a number")
        return int(text)

    if unknown := entries.keys() - {"location", "offset", "length", "checksum", "basepath"}:
        raise _WireError(f"tensor {name!r} has an unknown external entry {min(unknown)!r}")
    if "basepath" in entries:
        raise _WireError(f"tensor {name!r} has an external base path, {entries['basepath']!r}")
    return External(entries.get("location", ""), number("offset") or 0, number("length"))
