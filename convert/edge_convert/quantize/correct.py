"""Bias correction: what rounding moves a channel's mean by is taken off its bias (Nagel et al. 2019, section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from edge_convert.backbones.contract import Backbone
from edge_convert.network import scaled
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.layers import NO_LIMIT, RELU6, Layer, layers_of, own_buffers, set_values, values
from edge_convert.quantize.ranges import read_graph
from edge_convert.quantize.watch import Place, Watched, pairs
from edge_convert.tflite_file import pack_model

LEAST_ACTIVE = 0.25
"""A channel that its activation clips nearly everywhere would ask for an endless correction."""


def correct_biases(float32: bytes, int8: bytes, pictures: NDArray[np.uint8], backbone: Backbone) -> Steps[bytes]:
    """The int8 file with corrected biases; size, operations and ranges stay as they are.

    Layer after layer, each measured with those before it corrected: the mean of every channel of its output, over
    places and pictures, less that of the float32 file, goes off the int32 bias, in steps of input times kernel.
    pictures: (n, side, side, channels) uint8, calibration pictures. Layers that stayed float are left alone.
    """
    content = read_graph(int8)
    layers = [layer for layer in layers_of(content) if _is_int8(content, layer)]
    own_buffers(content, {layer.bias for layer in layers})
    real = Watched(float32)
    of_output = {small.index: place for place, small in pairs(real, Watched(int8)) if small.graph == 0}
    tensors = content.subgraphs[0].tensors
    places = [of_output[layer.output] for layer in layers]
    wanted, active = _means(real, places, pictures, backbone)
    model = pack_model(content)
    for done, (layer, place) in enumerate(zip(layers, places, strict=True), start=1):
        found, _ = _means(Watched(model), [_place(layer)], pictures, backbone)
        shift = found[layer.output] - wanted[place.index]
        if layer.limit != NO_LIMIT:
            # The bias acts before the activation: only where that passes it on does the mean follow.
            shift = shift / np.maximum(_passing(active[place.index], layer.limit), LEAST_ACTIVE)
        steps = np.asarray(tensors[layer.bias].quantization.scale, np.float64)
        bias = values(content, layer.bias).astype(np.int64) - np.rint(shift / steps).astype(np.int64)
        set_values(content, layer.bias, np.clip(bias, -(2**31), 2**31 - 1))
        model = pack_model(content)
        yield Progress(done=done, total=len(layers))
    return model


def _is_int8(content: object, layer: Layer) -> bool:
    tensors = content.subgraphs[0].tensors  # type: ignore[attr-defined]
    kinds = [tensors[index].type for index in (layer.source, layer.bias, layer.output)]
    return kinds == [schema.TensorType.INT8, schema.TensorType.INT32, schema.TensorType.INT8]


def _place(layer: Layer) -> Place:
    return Place(graph=0, index=layer.output, name="", operation=layer.operation, order=0)


def _means(
    watched: Watched, places: Sequence[Place], pictures: NDArray[np.uint8], backbone: Backbone
) -> tuple[dict[int, NDArray[np.float64]], dict[int, NDArray[np.float64]]]:
    """By tensor: mean of each channel, (channels,), and shares of it above 0 and below 6, (2, channels)."""
    sums: dict[int, NDArray[np.float64]] = {}
    inside: dict[int, NDArray[np.float64]] = {}
    for picture in pictures:
        watched.run(scaled(picture, backbone))
        for place in places:
            found = watched.read(place)
            flat = found.reshape(-1, found.shape[-1])
            sums[place.index] = sums.get(place.index, 0) + flat.mean(axis=0, dtype=np.float64) / len(pictures)
            share = np.stack([(flat > 0).mean(axis=0), (flat < 6).mean(axis=0)]) / len(pictures)
            inside[place.index] = inside.get(place.index, 0) + share
    return sums, inside


def _passing(shares: NDArray[np.float64], limit: int) -> NDArray[np.float64]:
    """The share of a channel that its activation hands on as it is. shares: above 0 and below 6, (2, channels)."""
    above, below = shares
    return np.asarray(above + below - 1 if limit == RELU6 else above, np.float64)
