"""ONNX Runtime's CUDA kernels of the operators in graphs.

Sources, of github.com/microsoft/onnxruntime:

- docs/OperatorKernels.md at commit 001d12d2623fd411ce0f83d05abb5e82304a3389, "Operators implemented by
  CUDAExecutionProvider": versions and types.
- onnxruntime/core/providers/cuda/, where kernels are registered (`OrtMemTypeCPUInput`): the inputs that a
  kernel reads in the memory of the host; cuda/ml/label_encoder.cc, which the document lacks.

Where kernels exist for some combinations of types only, the one that graphs have is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FLOAT = frozenset({"float"})
FLOATS = frozenset({"double", "float", "float16"})
BFLOATS = FLOATS | {"bfloat16"}
WIDE_INTS = frozenset({"int32", "int64", "uint32", "uint64"})
NUMBERS = BFLOATS | WIDE_INTS | {"int8", "int16", "uint8", "uint16"}
FIXED_SIZE = NUMBERS | {"bool"}
INDICES = frozenset({"int32", "int64"})
INT64 = frozenset({"int64"})
BOOL = frozenset({"bool"})


class Kernel(NamedTuple):
    """One row of the table of kernels."""

    first: int
    """The first version of the operator that the kernel computes."""
    last: int | None
    """The last version; None: `first` alone, until ONNX Runtime says that a newer one is computed as well."""
    types: Mapping[str, frozenset[str]]
    """Types of elements by the name of the type constraint in the operator's schema."""
    host_inputs: frozenset[int] = frozenset()
    """Places of the inputs that the kernel reads in the memory of the host."""
    makes_shape: bool = False
    """Whether the result is a shape, in the memory of the host."""


KERNELS: dict[tuple[str, str], list[Kernel]] = {
    ("", "Abs"): [Kernel(13, None, {"T": NUMBERS})],
    ("", "Add"): [Kernel(14, None, {"T": NUMBERS})],
    ("", "And"): [Kernel(7, None, {"T": BOOL, "T1": BOOL})],
    ("", "ArgMax"): [Kernel(13, None, {"T": FLOATS})],
    ("", "BatchNormalization"): [Kernel(15, None, {"T": FLOAT, "T1": FLOAT, "T2": FLOAT})],
    ("", "Cast"): [Kernel(13, 18, {"T1": FIXED_SIZE, "T2": FIXED_SIZE})],
    ("", "Clip"): [Kernel(13, None, {"T": FLOATS | {"int64", "int8", "uint64", "uint8"}}, frozenset({1, 2}))],
    ("", "Concat"): [Kernel(13, None, {"T": FIXED_SIZE})],
    ("", "Div"): [Kernel(14, None, {"T": NUMBERS})],
    ("", "Equal"): [Kernel(13, None, {"T": FLOATS | WIDE_INTS | BOOL, "T1": BOOL})],
    ("", "Exp"): [Kernel(13, None, {"T": BFLOATS})],
    ("", "Expand"): [Kernel(13, None, {"T": FIXED_SIZE}, frozenset({1}))],
    ("", "Floor"): [Kernel(13, None, {"T": FLOATS})],
    ("", "Gather"): [Kernel(13, None, {"T": FIXED_SIZE, "Tind": INDICES})],
    ("", "GatherND"): [Kernel(13, None, {"T": BFLOATS | {"int64"}})],
    ("", "Gemm"): [Kernel(13, None, {"T": BFLOATS})],
    ("", "Greater"): [Kernel(13, None, {"T": FLOATS | WIDE_INTS, "T1": BOOL})],
    ("", "Identity"): [Kernel(14, 18, {"V": FIXED_SIZE})],
    ("", "Less"): [Kernel(13, None, {"T": FLOATS | WIDE_INTS, "T1": BOOL})],
    ("", "Log"): [Kernel(13, None, {"T": FLOATS})],
    ("", "MatMul"): [Kernel(13, None, {"T": BFLOATS})],
    ("", "Max"): [Kernel(13, None, {"T": BFLOATS | WIDE_INTS})],
    ("", "Min"): [Kernel(13, None, {"T": BFLOATS | WIDE_INTS})],
    ("", "Mul"): [Kernel(14, None, {"T": NUMBERS})],
    ("", "Neg"): [Kernel(13, None, {"T": BFLOATS | {"int8", "int16", "int32", "int64"}})],
    ("", "Or"): [Kernel(7, None, {"T": BOOL, "T1": BOOL})],
    ("", "ReduceMax"): [Kernel(18, None, {"T": FLOATS | INDICES}, frozenset({1}))],
    ("", "ReduceMin"): [Kernel(18, None, {"T": FLOATS | INDICES | {"int8", "uint8"}}, frozenset({1}))],
    ("", "ReduceSum"): [Kernel(13, None, {"T": BFLOATS | {"int32", "int64"}}, frozenset({1}))],
    ("", "Relu"): [Kernel(14, None, {"T": BFLOATS})],
    ("", "Reshape"): [Kernel(14, 18, {"T": FIXED_SIZE}, frozenset({1}))],
    ("", "ScatterElements"): [Kernel(18, None, {"T": FIXED_SIZE, "Tind": INDICES})],
    ("", "Shape"): [Kernel(15, 18, {"T": FIXED_SIZE, "T1": INT64}, makes_shape=True)],
    ("", "Sigmoid"): [Kernel(13, None, {"T": BFLOATS})],
    ("", "Slice"): [Kernel(13, None, {"T": FIXED_SIZE, "Tind": INDICES}, frozenset({1, 2, 3, 4}))],
    ("", "Sqrt"): [Kernel(13, None, {"T": BFLOATS})],
    ("", "Squeeze"): [Kernel(13, 20, {"T": FIXED_SIZE}, frozenset({1}))],
    ("", "Sub"): [Kernel(14, None, {"T": NUMBERS})],
    ("", "TopK"): [Kernel(11, None, {"T": FLOATS | {"int32", "int64"}, "I": INT64}, frozenset({1}))],
    ("", "Transpose"): [Kernel(13, 20, {"T": FIXED_SIZE})],
    ("", "Unsqueeze"): [Kernel(13, 20, {"T": FIXED_SIZE}, frozenset({1}))],
    ("ai.onnx.ml", "LabelEncoder"): [Kernel(4, None, {"T1": INT64, "T2": INT64})],
    ("", "Where"): [Kernel(16, None, {"B": BOOL, "T": BFLOATS | {"int32", "int64", "uint8"}})],
}
"""By domain and operator: the rows that nodes of opset 18 can match. Other opsets have other rows, and a node
of theirs has no kernel until its row is here."""
