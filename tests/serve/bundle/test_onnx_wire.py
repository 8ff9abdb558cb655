"""The wire reader: what it finds in real files, and that nothing but BundleError comes out of bad ones."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from fixture_bundles import FIXTURES
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import block, float_field, model, number, tensor, varint

from serve.bundle.onnx_wire import MAX_DEPTH, MAX_FIELDS, External, read_tensors
from serve.errors import BundleError

TWO = struct.pack("<2f", 1.0, 2.0)
REAL = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in sorted(FIXTURES.glob("*/*.onnx"))}


def test_the_tables_of_a_real_graph_are_found_with_their_bytes() -> None:
    data = REAL["dot-bias/recommend.onnx"]
    found = {tensor.name: tensor for tensor in read_tensors(memoryview(data), "recommend.onnx")}
    assert found["item_factors"].shape == (51, 6)
    assert found["item_factors"].dtype == "float32"
    ((start, stop),) = found["item_factors"].spans
    assert stop - start == found["item_factors"].n_bytes == 51 * 6 * 4
    # Row 0 of a table is the average of the others.
    table = np.frombuffer(data[start:stop], np.float32).reshape(51, 6)
    np.testing.assert_allclose(table[0], table[1:].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("name", REAL)
def test_every_real_graph_is_read(name: str) -> None:
    assert read_tensors(REAL[name], name)


def test_tensors_are_found_wherever_they_hide() -> None:
    """Subgraphs of nodes, attributes, functions, sparse initializers, training graphs."""
    hidden = {
        name: tensor(name, raw=TWO) for name in ("sub", "attr", "list", "func", "sparse", "train", "deep")
    }
    attributes = [block(5, hidden["attr"]), block(10, hidden["list"])]
    deep = block(6, block(1, block(5, block(6, block(5, hidden["deep"])))))
    attributes += [block(6, block(5, hidden["sub"])), deep, block(11, b"")]
    node = b"".join(block(5, attribute) for attribute in attributes)
    sparse = block(15, block(1, hidden["sparse"]) + block(2, tensor("at", (2,), 7, raw=bytes(16))))
    data = model(graph=block(1, node) + sparse)
    data += block(25, block(7, block(5, block(5, hidden["func"])))) + block(
        20, block(1, block(5, hidden["train"]))
    )
    assert {tensor.name for tensor in read_tensors(data, "x")} == {*hidden, "at"}


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (tensor(raw=TWO), TWO),
        (tensor(more=block(4, TWO)), TWO),
        (tensor(more=float_field(4, 1.0) + float_field(4, 2.0)), TWO),
        (tensor(data_type=11, more=block(10, bytes(16))), bytes(16)),
        (tensor(data_type=7, more=block(7, varint(1) + varint(300))), b""),
        (tensor(data_type=6, more=number(5, 1) + number(5, 2)), b""),
        (tensor(data_type=8, more=block(6, "a") + block(6, "b")), b""),
        (tensor(shape=(), raw=TWO[:4]), TWO[:4]),
        (tensor(shape=(0, 3)), b""),
        (tensor(shape=(3,), data_type=22, raw=bytes(2)), bytes(2)),
    ],
    ids=["raw", "packed", "unpacked", "double", "int64", "int32", "strings", "scalar", "empty", "int4"],
)
def test_every_way_to_store_values(encoded: bytes, expected: bytes) -> None:
    data = model(encoded)
    (found,) = read_tensors(data, "x")
    assert b"".join(data[start:stop] for start, stop in found.spans) == expected


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
    "two kinds of data": model(tensor(raw=TWO, more=block(4, TWO))),
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
    "half floats as int32": model(tensor(data_type=10, more=block(5, varint(1) + varint(2)))),
    "floats as doubles": model(tensor(more=block(10, bytes(16)))),
    "numbers cut off": model(tensor(data_type=7, more=block(7, b"\x01\x80"))),
    "too few strings": model(tensor(data_type=8, more=block(6, "a"))),
    "segment": model(tensor(raw=TWO, more=block(3, b""))),
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


def test_absurd_nesting_is_refused_without_recursion() -> None:
    graph = b""
    for _ in range(MAX_DEPTH * 50):
        graph = block(1, block(5, block(6, graph)))
    with pytest.raises(BundleError, match=f"more than {MAX_DEPTH} deep"):
        read_tensors(block(7, graph), "x")


def test_a_million_fields_are_refused_soon() -> None:
    start = time.process_time()
    with pytest.raises(BundleError, match="fields"):
        read_tensors(block(7, b"\x10\x01" * (2 * MAX_FIELDS)), "x")
    assert time.process_time() - start < 20


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
    spans = [span for one in found for span in one.spans]
    assert all(0 <= start <= stop <= len(data) for start, stop in spans)


def test_a_mapped_file_is_read_like_bytes(tmp_path: Path) -> None:
    data = REAL["mlp/score.onnx"]
    assert read_tensors(memoryview(data), "x") == read_tensors(data, "x")
