"""MobileNetV3 small and large (Howard et al. 2019) and their minimalistic forms, from tf_keras.applications.

Minimalistic: ReLU for hard-swish, 3x3 for 5x5 kernels, no squeeze-and-excite. All end at the last feature maps; the
published networks have one more layer between pooling and classes, which is left out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from edge_convert.backbones.contract import Backbone, Published
from edge_convert.backbones.keras_application import application

BLOCKS = {"Small": 11, "Large": 15}
SOURCE = "tf_keras, mobilenet_v3.py"
SWISH = "smaller than it is quick: hard-swish and squeeze-and-excite; see its minimalistic form"
MINIMALISTIC = "no hard-swish and no squeeze-and-excite: for int8"
SWISH_INT8 = (
    "hard-swish is slow: XNNPACK takes it in float32 only, and an int8 file falls into pieces; no kernel for 16-bit "
    "activations"
)
MINIMALISTIC_INT8 = "every operation is an integer kernel that XNNPACK takes"


def _make(size: str, minimalistic: bool, side_px: int, width: float, weights: str) -> Any:
    return application(
        f"MobileNetV3{size}",
        side_px,
        weights,
        alpha=width,
        minimalistic=minimalistic,
        # The Rescaling layer stays out: the input's quantization parameters do its work.
        include_preprocessing=False,
    )


def _entry(size: str, *, minimalistic: bool, top1: float, quantization: str) -> Backbone:
    suffix = "-minimalistic" if minimalistic else ""
    return Backbone(
        name=f"mobilenetv3-{size.lower()}{suffix}",
        title=f"MobileNetV3 {size.lower()}{' minimalistic' if minimalistic else ''}",
        # As MobileNetV2: trained on pixel / 127.5 - 1.
        input_scale=1 / 127.5,
        input_zero_point=127,
        block_starts=(
            "Conv",
            "expanded_conv/depthwise/pad" if size == "Small" else "expanded_conv/depthwise",
            *(f"expanded_conv_{index}/expand" for index in range(1, BLOCKS[size])),
        ),
        make=partial(_make, size, minimalistic),
        has_hard_swish=not minimalistic,
        pretrained_widths=(1.0,) if minimalistic else (0.75, 1.0),
        published=Published(top1=top1, source=SOURCE),
        notes=MINIMALISTIC if minimalistic else SWISH,
        quantization=quantization,
    )


MOBILENET_V3 = (
    _entry(
        "Small",
        minimalistic=False,
        top1=68.1,
        quantization=f"{SWISH_INT8}; a trained one agreed with float32 on 0.97 of the classes",
    ),
    _entry("Small", minimalistic=True, top1=61.9, quantization=MINIMALISTIC_INT8),
    _entry("Large", minimalistic=False, top1=75.6, quantization=SWISH_INT8),
    _entry("Large", minimalistic=True, top1=72.3, quantization=MINIMALISTIC_INT8),
)
