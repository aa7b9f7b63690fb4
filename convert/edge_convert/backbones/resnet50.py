"""ResNet50 (He et al. 2016), from tf_keras.applications."""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.colour import CAFFE, SCALE, ZERO_POINT, on_pixels
from edge_convert.backbones.contract import Backbone, Published
from edge_convert.backbones.keras_application import KERAS_TABLE
from edge_convert.backbones.width import application_of_width

REPEATS = {2: 3, 3: 4, 4: 6, 5: 3}


def _make(side_px: int, width: float, weights: str) -> Any:
    model = application_of_width("ResNet50", side_px, width, weights)
    return on_pixels(
        model,
        CAFFE,
        after="conv1_pad",
        until="conv5_block3_out",
        stem="conv1_conv",
        padding=model.get_layer("conv1_pad").padding,
        filled=weights != "none",
    )


RESNET50 = Backbone(
    name="resnet50",
    title="ResNet50",
    input_scale=SCALE,
    input_zero_point=ZERO_POINT,
    block_starts=(
        "conv1_conv",
        *(f"conv{stage}_block{block}_1_conv" for stage, blocks in REPEATS.items() for block in range(1, blocks + 1)),
    ),
    make=_make,
    published=Published(top1=74.9, source=KERAS_TABLE),
    notes="large for a small device",
    quantization="ReLU and residual sums, every operation an integer kernel",
)
