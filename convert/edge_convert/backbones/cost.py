"""What a network costs: counted from its layers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_convert.backbones.contract import Backbone
from edge_convert.keras import keras

SIDE_PX = 224


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a network to its last feature maps, without the pooling and the dense layer behind them.

    parameters: batch normalisation's included, which an exported file no longer has. multiply_adds: of convolutions
    and dense layers for one picture.
    """

    parameters: int
    multiply_adds: int

    @property
    def float32_mb(self) -> float:
        """An estimate of the float32 file, in 10^6 bytes: four a parameter."""
        return 4 * self.parameters / 1e6


@functools.cache
def cost_of(backbone: Backbone) -> Cost:
    """Build the network with random weights at SIDE_PX and width 1, and count."""
    model = backbone.build(SIDE_PX, 1.0, "none")
    return Cost(parameters=model.count_params(), multiply_adds=multiply_adds(model))


def multiply_adds(model: Any) -> int:
    """Multiplications followed by an addition, in a tf_keras model's convolutions and dense layers, for one picture.

    Each place of an output channel takes as many as its kernel has weights.
    """
    layers = keras().layers
    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            rows, columns = layer.output.shape[1:3]
            total += rows * columns * int(np.prod(layer.depthwise_kernel.shape))
        elif isinstance(layer, layers.Conv2D):
            rows, columns = layer.output.shape[1:3]
            total += rows * columns * int(np.prod(layer.kernel.shape))
        elif isinstance(layer, layers.Dense):
            total += int(np.prod(layer.kernel.shape))
    return total
