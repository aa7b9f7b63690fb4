"""MobileNet (Howard et al. 2017), from tf_keras.applications."""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.contract import Backbone, Published
from edge_convert.backbones.keras_application import KERAS_TABLE, application


def _make(side_px: int, width: float, weights: str) -> Any:
    return application("MobileNet", side_px, weights, alpha=width)


MOBILENET_V1 = Backbone(
    name="mobilenet",
    title="MobileNet",
    # Keras trains on pixel / 127.5 - 1; a zero point must be a whole number, and 127 moves the input by 0.004.
    input_scale=1 / 127.5,
    input_zero_point=127,
    block_starts=("conv1", *(f"conv_dw_{index}" for index in range(1, 14))),
    make=_make,
    has_relu6=True,
    pretrained_widths=(0.25, 0.5, 0.75, 1.0),
    published=Published(top1=70.4, source=KERAS_TABLE),
    notes="the plainest graph here: no residual sums",
    quantization="every operation is an integer kernel; ReLU6 bounds a scale",
)
