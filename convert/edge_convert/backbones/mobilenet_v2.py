"""MobileNetV2 (Sandler et al. 2018), from tf_keras.applications."""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.contract import Backbone, Published
from edge_convert.backbones.keras_application import KERAS_TABLE, application


def _make(side_px: int, width: float, weights: str) -> Any:
    return application("MobileNetV2", side_px, weights, alpha=width)


MOBILENET_V2 = Backbone(
    name="mobilenetv2",
    title="MobileNetV2",
    # Keras trains on pixel / 127.5 - 1; a zero point must be a whole number, and 127 moves the input by 0.004.
    input_scale=1 / 127.5,
    input_zero_point=127,
    block_starts=("Conv1", "expanded_conv_depthwise", *(f"block_{index}_expand" for index in range(1, 17))),
    make=_make,
    has_relu6=True,
    pretrained_widths=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    published=Published(top1=71.3, source=KERAS_TABLE),
    notes="residual sums between narrow layers; what most recipes here use",
    quantization="every operation is an integer kernel; ReLU6 bounds a scale; a trained one (width 0.35) "
    "agreed with float32 on 0.93 of the classes",
)
