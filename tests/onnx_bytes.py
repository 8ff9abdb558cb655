"""Protobuf encoding of crafted ONNX files, so that the tests need no onnx."""

from __future__ import annotations

import struct


def varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


def float_field(field: int, value: float) -> bytes:
    return varint(field << 3 | 5) + struct.pack("<f", value)


def tensor(
    name: str = "t",
    shape: tuple[int, ...] = (2,),
    data_type: int = 1,
    *,
    raw: bytes | None = None,
    external: dict[str, str] | None = None,
    more: bytes = b"",
) -> bytes:
    """A TensorProto."""
    encoded = b"".join(number(1, size) for size in shape) + number(2, data_type) + block(8, name)
    if raw is not None:
        encoded += block(9, raw)
    if external is not None:
        encoded += b"".join(block(13, block(1, k) + block(2, v)) for k, v in external.items()) + number(14, 1)
    return encoded + more


def model(*initializers: bytes, graph: bytes = b"") -> bytes:
    """A ModelProto whose graph holds these TensorProtos, and `graph`, fields of its own."""
    return number(1, 8) + block(7, b"".join(block(5, t) for t in initializers) + graph)
