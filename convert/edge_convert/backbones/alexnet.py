"""AlexNet's five convolutions (Krizhevsky et al. 2012), in one column. Keras has no such network, and no weights of it.

Changed: one column, so no convolution is split in two groups; batch normalisation behind every convolution for local
response normalisation behind the first two, which has no integer operation. With the head `dense`, the last max pooling
and the dense layers as published; with the head `pool` neither, as in Zhou et al. 2016: the map stays twice as fine.
"""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.contract import Backbone, DenseHead, load_weight_file, weight_file
from edge_convert.backbones.width import channels
from edge_convert.keras import keras

# channels, kernel, stride, padding, max pooling behind it
LAYERS = (
    (96, 11, 4, "valid", True),
    (256, 5, 1, "same", True),
    (384, 3, 1, "same", False),
    (384, 3, 1, "same", False),
    (256, 3, 1, "same", False),
)
POOL = {"pool_size": 3, "strides": 2}


def _make(side_px: int, width: float, weights: str) -> Any:
    layers = keras().layers
    picture = x = layers.Input((side_px, side_px, 3), name="picture")
    for index, (published, kernel, stride, padding, pooled) in enumerate(LAYERS, start=1):
        filters = channels(published, width)
        x = layers.Conv2D(filters, kernel, stride, padding=padding, use_bias=False, name=f"conv{index}")(x)
        x = layers.BatchNormalization(name=f"conv{index}_bn")(x)
        x = layers.ReLU(name=f"conv{index}_relu")(x)
        if pooled:
            x = layers.MaxPooling2D(**POOL, name=f"pool{index}")(x)
    model = keras().Model(picture, x, name="alexnet")
    if weights != "none":
        load_weight_file(model, weight_file(weights))
    return model


ALEXNET = Backbone(
    name="alexnet",
    title="AlexNet",
    input_scale=1 / 127.5,
    input_zero_point=127,
    block_starts=tuple(f"conv{index}" for index in range(1, len(LAYERS) + 1)),
    make=_make,
    # Two rounds of (n - 3) // 2 + 1 behind (n - 11) // 4 + 1 leave one place.
    min_side_px=35,
    # One more such round.
    dense_head=DenseHead(pool_px=3, stride=2, min_side_px=67),
    sources=(),
    notes="one column, batch normalisation for local response normalisation; from scratch only",
    quantization="convolutions, ReLU and max pooling only; batch normalisation folds into the kernels",
)
