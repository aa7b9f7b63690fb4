"""VGG16 (Simonyan and Zisserman 2015), its thirteen convolutions, from tf_keras.applications.

The last max pooling and the three dense layers behind them, 124 of 138 million parameters, come back with the head
`dense`. With the head `pool` they give way to the pooling and one dense layer that every backbone here gets, as in Zhou
et al. 2016: the map stays twice as fine.
"""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.colour import CAFFE, SCALE, ZERO_POINT, on_pixels
from edge_convert.backbones.contract import Backbone, DenseHead, Published
from edge_convert.backbones.keras_application import KERAS_TABLE
from edge_convert.backbones.width import application_of_width


def _make(side_px: int, width: float, weights: str) -> Any:
    model = application_of_width("VGG16", side_px, width, weights)
    return on_pixels(
        model,
        CAFFE,
        after=model.layers[0].name,
        until="block5_conv3",
        stem="block1_conv1",
        padding=((1, 1), (1, 1)),
        filled=weights != "none",
    )


VGG16 = Backbone(
    name="vgg16",
    title="VGG16",
    input_scale=SCALE,
    input_zero_point=ZERO_POINT,
    block_starts=tuple(f"block{index}_conv1" for index in range(1, 6)),
    make=_make,
    dense_head=DenseHead(pool_px=2, stride=2, min_side_px=32),
    published=Published(top1=71.3, source=f"{KERAS_TABLE} (with its dense layers)"),
    notes="convolutions only; no batch normalisation, hard to train from scratch; far too slow for a small device",
    quantization="convolutions, ReLU and max pooling only; with the head `dense`, nine of ten bytes are dense kernels",
)
