"""Where ONNX Runtime runs the nodes of a graph on CUDA, from the table of its kernels: no GPU is needed.

What is computed here follows these sources of github.com/microsoft/onnxruntime:

- onnxruntime/core/framework/fallback_cpu_capability.cc, `GetCpuPreferredNodes`: nodes that only read what is
  in the memory of the host, as the result of `Shape` is, run on the CPU.
- onnxruntime/core/optimizer/transformer_memcpy.cc: where copies between host and device are inserted.
- onnxruntime/core/session/inference_session.cc: a CUDA graph is captured where there are neither nodes with
  subgraphs nor copies. Without copies, nodes on the CPU can only compute shapes, which are allowed
  (pull request 16491): the captured graph has the shapes of the call that was captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import NamedTuple

import onnx
from onnx import defs, shape_inference

from .cuda_kernels import KERNELS, Kernel

SMALL = 100
"""The most numbers of an initializer beside which arithmetic on shapes runs on the CPU."""


class Placement(NamedTuple):
    """Where nodes run, and what that costs."""

    no_kernel: list[str]
    """Nodes without a CUDA kernel, by name, and what they lack."""
    copies: list[str]
    """Names of tensors that are copied between host and device: one is enough to prevent a CUDA graph."""
    on_cpu: list[str]
    """Operators that run on the CPU, in the order of the graph."""


def place(model: onnx.ModelProto) -> Placement:
    """Place the nodes of a graph.

    Raises:
        ValueError: a node has a subgraph, or the type of a tensor is not known.
    """
    graph = model.graph
    types = _types(model)
    versions = {opset.domain: opset.version for opset in model.opset_import}
    inputs = {value.name for value in graph.input}
    small = {tensor.name for tensor in graph.initializer if prod(tensor.dims) <= SMALL}
    found = Placement([], [], [])
    shapes = set[str]()  # and what is computed from them, on the host
    # Initializers are put where they are read, and are never copied.
    read_on_host, read_on_device = set[str](), set[str]()
    made_on_host, made_on_device = set[str](), set[str]()
    for node in graph.node:
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise ValueError(f"{node.name}: {node.op_type} has a subgraph")
        schema = defs.get_schema(node.op_type, versions[node.domain], node.domain)
        kernel = _kernel(node, schema, types)
        if isinstance(kernel, str):
            found.no_kernel.append(kernel)
        elif not _prefers_cpu(node, kernel, inputs | small, shapes, types):
            for place, name in enumerate(node.input):
                (read_on_host if place in kernel.host_inputs else read_on_device).add(name)
            (made_on_host if kernel.makes_shape else made_on_device).update(node.output)
            if kernel.makes_shape:
                shapes.update(node.output)
            continue
        found.on_cpu.append(node.op_type)
        read_on_host.update(node.input)
        made_on_host.update(node.output)
        if not shapes.isdisjoint(node.input):
            shapes.update(node.output)
    to_device = read_on_device & (made_on_host | (inputs & read_on_host))
    found.copies.extend(sorted(to_device | (made_on_device & read_on_host)))
    return found


def _kernel(node: onnx.NodeProto, schema: defs.OpSchema, types: Mapping[str, str]) -> Kernel | str:
    """The kernel of a node, or what it lacks."""
    version = schema.since_version
    rows = KERNELS.get((node.domain, node.op_type), [])
    lacks = f"{node.name}: {node.op_type} {version} has no CUDA kernel"
    kernel = next((row for row in rows if row.first <= version <= (row.last or row.first)), None)
    if kernel is None:
        return lacks
    for constraint, name in _constraints(node, schema):
        if types[name] not in kernel.types.get(constraint, {types[name]}):
            return f"{lacks} of {constraint} = {types[name]}"
    return kernel


def _constraints(node: onnx.NodeProto, schema: defs.OpSchema) -> Iterator[tuple[str, str]]:
    """Each tensor of a node, after the name of the type constraint that the schema has for it."""
    for parameters, names in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for place, name in enumerate(names):
            if name:
                # The last parameter may stand for any number of tensors.
                yield parameters[min(place, len(parameters) - 1)].type_str, name


def _prefers_cpu(
    node: onnx.NodeProto, kernel: Kernel, anywhere: set[str], shapes: set[str], types: Mapping[str, str]
) -> bool:
    """Whether a node only computes on shapes, and its kernel would read them on the GPU.

    `shapes` are tensors in the memory of the host that follow from shapes; those in `anywhere` may be read on
    either side. 16-bit floats are not computed on the CPU.
    """
    return not shapes.isdisjoint(node.input) and all(
        types[name] not in ("float16", "bfloat16")
        and (name in anywhere or (name in shapes and place not in kernel.host_inputs))
        for place, name in enumerate(node.input)
        if name
    )


def _types(model: onnx.ModelProto) -> dict[str, str]:
    """The type of the elements of each tensor, such as "float"."""
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        found[value.name] = value.type.tensor_type.elem_type
    unknown = sorted({name for node in graph.node for name in node.output if name} - found.keys())
    if unknown:
        raise ValueError(f"the types of these tensors are not known: {', '.join(unknown)}")
    return {name: onnx.TensorProto.DataType.Name(number).lower() for name, number in found.items()}
