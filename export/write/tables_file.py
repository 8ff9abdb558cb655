"""`tables.bin`: one file of raw tables that every graph of a bundle refers to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from export.errors import GraphError
from serve.files.names import TABLES_NAME

# A runtime maps the file into memory page by page; the ONNX specification recommends page alignment.
ALIGNMENT = 4096
# Smaller initializers stay inside their graph: constants and shapes, which runtimes fold.
SMALLEST = 1024
# Above this, "auto" moves tables out: protobuf ends at 2 GiB, and each graph would hold a copy.
LARGE = 1 << 30


def is_table(name: str, array: npt.NDArray[Any]) -> bool:
    """Whether an initializer is a table of numbers: no exporter's constant, no attribute, no strings."""
    constant = name.startswith(("val_", "const_")) or name.endswith("_tensor")
    return array.dtype.kind in "fiub" and array.size > 1 and not constant


def initializers(model: ir.Model) -> dict[str, npt.NDArray[Any]]:
    """Every initializer of a graph by name, not copied; and tables of ids, which ONNX keeps in attributes."""
    tensors = {name: value.const_value for name, value in model.graph.initializers.items()}
    for node in model.graph:
        for attribute in node.attributes.values() if node.op_type == "LabelEncoder" else ():
            tensors[f"{node.inputs[0].name}.{attribute.name}"] = attribute.as_tensor()  # type: ignore[union-attr]
    return {name: tensor.numpy() for name, tensor in tensors.items() if tensor is not None}


def move_out(models: Iterable[ir.Model], folder: Path) -> None:
    """Write every table once to `folder/tables.bin`, and make the graphs refer to it.

    Raises:
        GraphError: two graphs have different tables of one name.
    """
    written: dict[str, tuple[int, npt.NDArray[Any]]] = {}  # name -> offset, table
    with (folder / TABLES_NAME).open("xb") as file:
        for value in (value for model in models for value in model.graph.initializers.values()):
            tensor, name = value.const_value, value.name
            assert tensor is not None
            assert name is not None
            array = tensor.numpy()
            if tensor.nbytes < SMALLEST or not is_table(name, array):
                continue
            if name not in written:
                file.write(b"\0" * (-file.tell() % ALIGNMENT))
                written[name] = (file.tell(), array)
                file.write(np.ascontiguousarray(array).data.cast("B"))
            offset, known = written[name]
            # Most often it is one table in memory, too.
            same = array.__array_interface__ == known.__array_interface__ or np.array_equal(array, known)
            if not same:
                raise GraphError(f"two graphs have different tables named {name!r}: rename one of them")
            value.const_value = ir.ExternalTensor(
                location=TABLES_NAME,
                offset=offset,
                length=tensor.nbytes,
                dtype=tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=name,
                base_dir=folder,
            )
