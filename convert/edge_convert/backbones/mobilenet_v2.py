"""MobileNetV2 (Sandler et al. 2018), from tf_keras.applications."""

from __future__ import annotations

from typing import Any

from edge.errors import RecipeError
from edge_convert.backbones.contract import Backbone, download_failed, load_weight_file, weight_file
from edge_convert.keras import keras


def _build(side_px: int, width: float, weights: str) -> Any:
    if weights == "package":
        raise RecipeError(
            "no PyPI package carries MobileNetV2's weights", remedy="use 'imagenet', a file, or efficientnet-lite0"
        )
    applications = keras().applications
    shape = (side_px, side_px, 3)
    if weights == "imagenet":
        try:
            return applications.MobileNetV2(input_shape=shape, alpha=width, include_top=False, weights="imagenet")
        except ValueError as error:
            raise RecipeError(
                f"MobileNetV2 {width} has no ImageNet weights: {str(error).splitlines()[0][:160]}",
                remedy="use network.width = 0.35, 0.5, 0.75, 1.0, 1.3 or 1.4, or weights = 'none'",
            ) from None
        except Exception as error:  # noqa: BLE001 - Keras wraps every download failure in a bare Exception
            raise download_failed("MobileNetV2", error) from None
    model = applications.MobileNetV2(input_shape=shape, alpha=width, include_top=False, weights=None)
    if weights != "none":
        load_weight_file(model, weight_file(weights))
    return model


MOBILENET_V2 = Backbone(
    name="mobilenetv2",
    # Keras trains on pixel / 127.5 - 1; a zero point must be a whole number, and 127 moves the input by 0.004.
    input_scale=1 / 127.5,
    input_zero_point=127,
    block_starts=("Conv1", "expanded_conv_depthwise", *(f"block_{index}_expand" for index in range(1, 17))),
    build=_build,
)
