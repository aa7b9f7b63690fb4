"""Equalisation: weak channels are raised to use the steps that a strong one sets for all (Nagel et al. 2019, 4.1).

Between two layers with nothing but ReLU in between, a channel may be multiplied in the first and divided in the second.
The network computes the same, and the tensor between the two is spread more evenly. ReLU6 is no such thing: raised past
6 a channel would be cut. So there a channel is raised only as far as no calibration picture takes it to 6, and one that
reaches 6 is left alone. Swish and hard-swish do not scale at all: their networks have few such pairs or none.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones.contract import Backbone
from edge_convert.network import scaled
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.layers import (
    INPUT_AXIS,
    NO_LIMIT,
    OUTPUT_AXIS,
    RELU,
    RELU6,
    Layer,
    layers_of,
    own_buffers,
    set_values,
    values,
)
from edge_convert.quantize.ranges import read_graph
from edge_convert.quantize.watch import Place, Watched, operation_names
from edge_convert.tflite_file import pack_model

HIGHEST = 5.7
"""What a channel before ReLU6 is raised to at most: 5 % below where it would be cut."""
MOST = 16.0
"""Times that a channel is raised, at most: of one that is nearly dead nothing is known."""

Pair = tuple[Layer, Layer]


def equalise(float32: bytes, pictures: NDArray[np.uint8], backbone: Backbone) -> Steps[tuple[bytes, int]]:
    """The float32 file with equalised channels, and between how many pairs of layers.

    pictures: (n, side, side, channels) uint8, calibration pictures: they tell each channel's largest value. Before a
    depthwise convolution a channel is raised fully, as each has a kernel of its own; before another one by the square
    root, because what the tensor gains its kernel loses.
    """
    content = read_graph(float32)
    pairs = _pairs(content)
    strongest = yield from _strongest(float32, [first.output for first, _ in pairs], pictures, backbone)
    own_buffers(content, {index for first, second in pairs for index in (first.kernel, first.bias, second.kernel)})
    for first, second in pairs:
        factor = _factors(strongest[first.output], first.limit, depthwise=second.operation == "DEPTHWISE_CONV_2D")
        _multiply(content, first.kernel, OUTPUT_AXIS[first.operation], factor)
        _multiply(content, first.bias, 0, factor)
        _multiply(content, second.kernel, INPUT_AXIS[second.operation], 1 / factor)
    return pack_model(content), len(pairs)


def _factors(strongest: NDArray[np.float64], limit: int, *, depthwise: bool) -> NDArray[np.float64]:
    """How many times each channel is raised, (channels,), 1 or more. strongest: its largest absolute value."""
    top = min(strongest.max(), HIGHEST) if limit == RELU6 else strongest.max()
    room = np.clip(top / np.maximum(strongest, 1e-9), 1, MOST)
    return np.asarray(room if depthwise else np.sqrt(room), np.float64)


def _pairs(content: Any) -> list[Pair]:
    """Layers of which the second is the only one that reads the first, with nothing but padding by zeros between."""
    subgraph, names = content.subgraphs[0], operation_names(content)
    read = Counter(int(index) for operator in subgraph.operators for index in operator.inputs)
    read.update(int(index) for index in subgraph.outputs)
    padded = {
        int(operator.inputs[0]): int(operator.outputs[0])
        for operator in subgraph.operators
        if names[operator.opcodeIndex] == "PAD"
    }
    layers = layers_of(content)
    by_source = {layer.source: layer for layer in layers if read[layer.source] == 1}
    found = []
    for first in layers:
        tensor = first.output
        if first.limit not in (NO_LIMIT, RELU, RELU6) or read[tensor] != 1:
            continue
        second = by_source.get(padded.get(tensor, tensor))
        if second is not None and _one_to_one(content, first, second):
            found.append((first, second))
    return found


def _one_to_one(content: Any, first: Layer, second: Layer) -> bool:
    """Whether the first one's output channels are the second one's input channels, one for one."""
    tensors = content.subgraphs[0].tensors
    made = tensors[first.kernel].shape[OUTPUT_AXIS[first.operation]]
    return bool(made == tensors[second.kernel].shape[INPUT_AXIS[second.operation]])


def _multiply(content: Any, index: int, axis: int, factor: NDArray[np.float64]) -> None:
    old = values(content, index)
    shape = [1] * old.ndim
    shape[axis] = len(factor)
    set_values(content, index, old * factor.reshape(shape))


def _strongest(
    float32: bytes, tensors: list[int], pictures: NDArray[np.uint8], backbone: Backbone
) -> Steps[dict[int, NDArray[np.float64]]]:
    """The largest absolute value of each channel over the pictures, (channels,), by the tensor's number."""
    watched = Watched(float32)
    found: dict[int, NDArray[np.float64]] = {}
    for done, picture in enumerate(pictures, start=1):
        watched.run(scaled(picture, backbone))
        for index in tensors:
            place = Place(graph=0, index=index, name="", operation="", order=0)
            values_ = watched.read(place)
            top = np.abs(values_).reshape(-1, values_.shape[-1]).max(axis=0).astype(np.float64)
            found[index] = np.maximum(found[index], top) if index in found else top
        yield Progress(done=done, total=len(pictures))
    return found
