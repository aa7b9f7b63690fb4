"""What a layer with a kernel reads for some places of its output, so that it is a linear equation for each of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.keras import keras
from edge_convert.prune.graph import inputs_of, makes_channels

PLACES = 32
"""In each picture, drawn by the seed."""

Floats = NDArray[np.float32]
Values = dict[int, Any]
"""What a batch of pictures gives, a tensor or an array, by the identity of the symbolic tensor."""


class Places:
    """Where in each picture a layer's output is looked at: the same places for all layers of the same size."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def at(self, maps: Any, number: int) -> Floats:
        """What maps, (pictures, rows, columns, channels), show there: (pictures, places, channels).

        number: of the batch.
        """
        maps = np.asarray(maps, np.float32)
        if maps.ndim == 2:
            return np.asarray(maps[:, np.newaxis])
        rows, columns = self._drawn(maps.shape[1:3], len(maps), number)
        return np.asarray(maps[np.arange(len(maps))[:, np.newaxis], rows, columns])

    def read(self, layer: Any, found: Values, number: int) -> Floats:
        """What the layer reads for them, (pictures, places, taps, channels)."""
        maps = np.asarray(found[id(inputs_of(layer)[0])], np.float32)
        if maps.ndim == 2:
            return maps[:, np.newaxis, np.newaxis]
        rows, columns = self._drawn(layer.output.shape[1:3], len(maps), number)
        if layer.padding == "same":
            maps = np.pad(maps, [(0, 0), *_paddings(layer, maps.shape[1:3]), (0, 0)])
        taps = [np.arange(size) * gap for size, gap in zip(layer.kernel_size, layer.dilation_rate, strict=True)]
        down = (rows * layer.strides[0])[:, :, np.newaxis, np.newaxis] + taps[0][:, np.newaxis]
        right = (columns * layer.strides[1])[:, :, np.newaxis, np.newaxis] + taps[1]
        seen = maps[np.arange(len(maps)).reshape(-1, 1, 1, 1), down, right]
        return np.asarray(seen.reshape(*rows.shape, -1, maps.shape[-1]))

    def _drawn(self, shape: tuple[int, int], pictures: int, number: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and columns, each (pictures, places)."""
        count = shape[0] * shape[1]
        if count <= PLACES:
            flat = np.tile(np.arange(count), (pictures, 1))
        else:
            flat = np.random.default_rng((self.seed, *shape, number)).integers(0, count, (pictures, PLACES))
        return flat // shape[1], flat % shape[1]


def linear(layer: Any, seen: Floats) -> Floats:
    """What the layer gives before its activation, (pictures, places, channels), from what it reads."""
    kernel, *bias = layer.get_weights()
    if is_depthwise(layer):
        given = np.einsum("nptc,tc->npc", seen, kernel.reshape(-1, kernel.shape[2]))
    else:
        given = seen.reshape(*seen.shape[:2], -1) @ kernel.reshape(-1, kernel.shape[-1])
    return np.asarray(given + bias[0] if bias else given, np.float32)


def is_linear_in_windows(layer: Any) -> bool:
    """Whether the layer is a convolution, depthwise or not, without groups, or a dense layer of vectors."""
    if is_depthwise(layer):
        return bool(layer.depth_multiplier == 1)
    is_dense, is_vector = isinstance(layer, keras().layers.Dense), len(layer.output.shape) == 2
    return makes_channels(layer) and is_dense == is_vector and getattr(layer, "groups", 1) == 1


def is_depthwise(layer: Any) -> bool:
    """Whether each channel has a kernel of its own."""
    return isinstance(layer, keras().layers.DepthwiseConv2D)


def _paddings(layer: Any, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Rows above and below, columns left and right, that padding "same" puts around maps of a size."""
    for length, kernel, gap, stride in zip(size, layer.kernel_size, layer.dilation_rate, layer.strides, strict=True):
        total = max((-(-length // stride) - 1) * stride + (kernel - 1) * gap + 1 - length, 0)
        yield total // 2, total - total // 2
