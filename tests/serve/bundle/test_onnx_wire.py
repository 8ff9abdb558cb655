"""The wire reader: what it finds in real files, and that nothing but BundleError comes out of bad ones."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from fixture_bundles import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import block, float_field, model, number, tensor, varint

from serve.bundle.onnx_wire import MAX_FIELDS, External, read_tensors
from serve.errors import BundleError

TWO = struct.pack("<2f", 1.0, 2.0)
REAL = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(FIXTURES.glob("*/*.onnx"))}


def test_the_tables_of_a_real_graph_are_found_with_their_bytes() -> None:
    data = REAL["dot-bias/recommend.onnx"]
    found = {tensor.name: tensor for tensor in read_tensors(memoryview(data), "recommend.onnx")}
    assert found["item_factors"].shape == (51, 6)
    assert found["item_factors"].dtype == "float32"
    factors = found["item_factors"]
    assert factors.stop - factors.start == factors.n_bytes == 51 * 6 * 4
    # Row 0 of a table is the average of the others.
    table = np.frombuffer(data[factors.start : factors.stop], np.float32).reshape(51, 6)
    np.testing.assert_allclose(table[0], table[1:].mean(axis=0), atol=1e-6)


def test_tensors_of_attributes_are_found() -> None:
    data = model(graph=block(1, block(5, block(5, tensor("keys", raw=TWO)))))
    assert [tensor.name for tensor in read_tensors(data, "x")] == ["keys"]


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (tensor(raw=TWO), TWO),
        (tensor(data_type=8, more=block(6, "a") + block(6, "b")), b""),
        (tensor(shape=(), raw=TWO[:4]), TWO[:4]),
        (tensor(shape=(0, 3)), b""),
        (tensor(shape=(3,), data_type=22, raw=bytes(2)), bytes(2)),
    ],
    ids=["raw", "strings", "scalar", "empty", "int4"],
)
def test_every_way_that_an_export_stores_values(encoded: bytes, expected: bytes) -> None:
    data = model(encoded)
    (found,) = read_tensors(data, "x")
    assert data[found.start : found.stop] == expected


SPARSE = block(1, tensor(raw=TWO)) + block(2, tensor("at", (2,), 7, raw=bytes(16)))
NEVER_WRITTEN = {
    "float_data": model(tensor(more=block(4, TWO))),
    "float_data one by one": model(tensor(more=float_field(4, 1.0) + float_field(4, 2.0))),
    "double_data": model(tensor(data_type=11, more=block(10, bytes(16)))),
    "int64_data": model(tensor(data_type=7, more=block(7, varint(1) + varint(300)))),
    "int32_data": model(tensor(data_type=6, more=number(5, 1) + number(5, 2))),
    "uint64_data": model(tensor(data_type=13, more=block(11, varint(1) + varint(2)))),
    "a segment": model(tensor(raw=TWO, more=block(3, b""))),
    "a subgraph": model(graph=block(1, block(5, block(6, block(5, tensor(raw=TWO)))))),
    "subgraphs": model(graph=block(1, block(5, block(11, b"")))),
    "a list of tensors": model(graph=block(1, block(5, block(10, tensor(raw=TWO))))),
    "a sparse tensor": model(graph=block(15, SPARSE)),
    "sparse tensors": model(graph=block(1, block(5, block(23, SPARSE)))),
    "functions": model() + block(25, block(7, b"")),
    "training information": model() + block(20, block(1, b"")),
}


@pytest.mark.parametrize("name", NEVER_WRITTEN)
def test_what_no_export_writes_is_refused(name: str) -> None:
    with pytest.raises(BundleError, match=r"Proto has field \d+ .*no export writes"):
        read_tensors(NEVER_WRITTEN[name], "bad.onnx")


def test_float_attributes_count_as_tensors() -> None:
    attribute = float_field(2, 1.5) + block(7, TWO)
    found = read_tensors(model(graph=block(1, block(5, attribute))), "x")
    assert sorted(tensor.shape for tensor in found) == [(1,), (2,)]


def test_external_data_is_told_and_not_followed() -> None:
    entries = {"location": "../x", "offset": "4096", "length": "8"}
    (found,) = read_tensors(model(tensor(external=entries)), "x")
    assert found.external == External("../x", 4096, 8)
    assert found.n_bytes == 8


BAD = {
    "empty file": b"",
    "no graph": number(1, 8),
    "not protobuf": b"\xff" * 40,
    "graph is a number": number(7, 1),
    "two graphs": model() + model(),
    "cut off": model(tensor(raw=TWO))[:-1],
    "length beyond the file": varint(7 << 3 | 2) + varint(1 << 40),
    "varint of eleven bytes": b"\x08" + b"\x80" * 10 + b"\x01",
    "varint beyond 64 bits": b"\x08" + b"\xff" * 9 + b"\x7f",
    "field number 0": b"\x00\x01",
    "field number too large": varint(1 << 33) + b"\x01",
    "group": varint(7 << 3 | 3),
    "wire type 7": varint(7 << 3 | 7),
    "too few bytes": model(tensor(raw=TWO[:-1])),
    "too many bytes": model(tensor(raw=TWO + b"\0")),
    "no data": model(tensor()),
    "raw twice": model(tensor(raw=TWO, more=block(9, TWO))),
    "name twice": model(tensor(raw=TWO, more=block(8, "again"))),
    "raw and external": model(tensor(raw=TWO, external={"location": "a"})),
    "external without a place": model(tensor(more=number(14, 1))),
    "a place without external": model(tensor(raw=TWO, more=block(13, block(1, "location") + block(2, "a")))),
    "place twice": model(
        tensor(external={"location": "a"}, more=block(13, block(1, "location") + block(2, "b")))
    ),
    "unknown external entry": model(tensor(external={"location": "a", "url": "b"})),
    "base path": model(tensor(external={"location": "a", "basepath": "/etc"})),
    "negative offset": model(tensor(external={"location": "a", "offset": "-1"})),
    "offset in words": model(tensor(external={"location": "a", "offset": "１２"})),
    "huge length": model(tensor(external={"location": "a", "length": "9" * 5000})),
    "negative size": model(tensor(shape=((1 << 64) - 1,), raw=TWO)),
    "too many axes": model(tensor(shape=(1,) * 17, raw=TWO[:4])),
    "packed shape too long": model(block(1, bytes([1]) * 4000) + number(2, 1)),
    "unknown data type": model(tensor(data_type=99, raw=TWO)),
    "no data type": model(block(8, "t")),
    "too few strings": model(tensor(data_type=8, more=block(6, "a"))),
    "name is not UTF-8": model(tensor(raw=TWO).replace(b"\x01t", b"\x01\xff")),
    "endless name": model(tensor("n" * 10_000, raw=TWO)),
    "tensor is a number": model(graph=number(5, 1)),
    "node is a float": model(graph=float_field(1, 1.0)),
    "float attribute of 3 bytes": model(graph=block(1, block(5, block(7, b"abc")))),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_malformed_is_refused_with_the_file_named(name: str) -> None:
    with pytest.raises(BundleError, match=r"bad\.onnx is not a valid ONNX file"):
        read_tensors(BAD[name], "bad.onnx")


def test_a_million_fields_are_refused() -> None:
    with pytest.raises(BundleError, match="fields"):
        read_tensors(block(7, b"\x0a\x00" * (2 * MAX_FIELDS)), "x")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_truncations_and_flipped_bits_of_real_graphs_raise_nothing_else(data: st.DataObject) -> None:
    broken = bytearray(data.draw(st.sampled_from(sorted(REAL.values()))))
    # Structure lies at both ends and between the tables, so half of the flips go to the first kilobyte.
    near = st.integers(0, min(1024, len(broken) - 1))
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.one_of(near, st.integers(0, len(broken) - 1)))
        broken[place] ^= 1 << data.draw(st.integers(0, 7))
    stop = data.draw(st.one_of(st.just(len(broken)), st.integers(0, len(broken))))
    _read_or_refuse(bytes(broken[:stop]))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    for whole in (data, block(7, data), model(data), model(graph=data)):
        _read_or_refuse(whole)


def _read_or_refuse(data: bytes) -> None:
    try:
        found = read_tensors(data, "x")
    except BundleError:
        return
    assert all(0 <= one.start <= one.stop <= len(data) for one in found)
