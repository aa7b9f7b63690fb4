"""A TFLite file's layers with weights, as flatbuffer objects that can be changed in place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_convert.quantize.watch import operation_names

NUMBERS = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32, schema.TensorType.INT8: np.int8}
OUTPUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
"""Where a kernel has its output channels."""
INPUT_AXIS = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 1}
NO_LIMIT, RELU, RELU6 = (
    schema.ActivationFunctionType.NONE,
    schema.ActivationFunctionType.RELU,
    schema.ActivationFunctionType.RELU6,
)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or dense layer of the main graph. source, kernel, bias, output: numbers of its tensors.

    limit: the activation inside it, as the schema numbers them.
    """

    operation: str
    source: int
    kernel: int
    bias: int
    output: int
    limit: int


def layers_of(content: Any) -> tuple[Layer, ...]:
    """The layers with weights and bias, in the order of computation."""
    names, subgraph = operation_names(content), content.subgraphs[0]
    found = []
    for operator in subgraph.operators:
        operation, inputs = names[operator.opcodeIndex], [int(index) for index in operator.inputs]
        if operation not in OUTPUT_AXIS or len(inputs) < 3 or inputs[2] < 0:
            continue
        if not all(_constant(content, index) for index in inputs[1:3]):
            continue
        found.append(
            Layer(
                operation=operation,
                source=inputs[0],
                kernel=inputs[1],
                bias=inputs[2],
                output=int(operator.outputs[0]),
                limit=int(operator.builtinOptions.fusedActivationFunction),
            )
        )
    return tuple(found)


def own_buffers(content: Any, tensors: set[int]) -> None:
    """Give each of these tensors of the main graph a buffer of its own: files share those that hold the same bytes."""
    used = Counter(tensor.buffer for subgraph in content.subgraphs for tensor in subgraph.tensors)
    for index in tensors:
        tensor = content.subgraphs[0].tensors[index]
        if used[tensor.buffer] > 1:
            used[tensor.buffer] -= 1
            copy = schema.BufferT()
            copy.data = np.array(content.buffers[tensor.buffer].data, np.uint8)
            content.buffers.append(copy)
            tensor.buffer = len(content.buffers) - 1


def values(content: Any, index: int) -> NDArray[Any]:
    """A constant of the main graph, as a copy in its shape."""
    tensor = content.subgraphs[0].tensors[index]
    raw = np.array(content.buffers[tensor.buffer].data, np.uint8)
    return np.array(raw.view(NUMBERS[tensor.type]).reshape(tuple(tensor.shape)))


def set_values(content: Any, index: int, new: NDArray[Any]) -> None:
    """Replace a constant by another of its shape and type."""
    tensor = content.subgraphs[0].tensors[index]
    flat = np.ascontiguousarray(new, NUMBERS[tensor.type]).view(np.uint8).reshape(-1)
    content.buffers[tensor.buffer].data = flat


def _constant(content: Any, index: int) -> bool:
    tensor = content.subgraphs[0].tensors[index]
    data = content.buffers[tensor.buffer].data
    return tensor.type in NUMBERS and data is not None and len(data) > 0
