"""What a network costs: counted from its layers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_convert.backbones.contract import Backbone
from edge_convert.keras import keras
from edge_convert.prune.magnitude import choose_layers

SIDE_PX = 224


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a network to its last feature maps, without the pooling and the dense layer behind them.

    parameters: batch normalisation's included, which an exported file no longer has. multiply_adds: of convolutions
    and dense layers for one picture. prunable_layers: how many kernels pruning takes (see `prune.choose_layers`), of
    `kernels` in convolutions and dense layers. prunable_share: their weights, of the weights in all of these.
    """

    parameters: int
    multiply_adds: int
    kernels: int
    prunable_layers: int
    prunable_share: float

    @property
    def float32_mb(self) -> float:
        """An estimate of the float32 file, in 10^6 bytes: four a parameter."""
        return 4 * self.parameters / 1e6


@functools.cache
def cost_of(backbone: Backbone, side_px: int = SIDE_PX, width: float = 1.0) -> Cost:
    """Build the network with random weights, and count. Raises RecipeError for a side that it does not have."""
    model = backbone.build(side_px, width, "none")
    sizes = {name: int(np.prod(kernel.shape)) for name, kernel in _kernels(model)}
    prunable = choose_layers(model)
    return Cost(
        parameters=model.count_params(),
        multiply_adds=multiply_adds(model),
        kernels=len(sizes),
        prunable_layers=len(prunable),
        prunable_share=sum(sizes[name] for name in prunable) / sum(sizes.values()),
    )


def multiply_adds(model: Any) -> int:
    """Multiplications followed by an addition, in a tf_keras model's convolutions and dense layers, for one picture.

    Each place of an output channel takes as many as its kernel has weights.
    """
    total = 0
    for name, kernel in _kernels(model):
        shape = model.get_layer(name).output.shape
        places = shape[1] * shape[2] if len(shape) == 4 else 1
        total += places * int(np.prod(kernel.shape))
    return total


def _kernels(model: Any) -> list[tuple[str, Any]]:
    """The kernel of each convolution, depthwise ones among them, and dense layer."""
    layers = keras().layers
    found = []
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D):
            found.append((layer.name, layer.depthwise_kernel))
        elif isinstance(layer, (layers.Conv2D, layers.Dense)):
            found.append((layer.name, layer.kernel))
    return found
