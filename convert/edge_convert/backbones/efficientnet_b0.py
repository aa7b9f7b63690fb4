"""EfficientNet-B0 (Tan and Le 2019), from tf_keras.applications, without the Rescaling and Normalization inside it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import RecipeError
from edge_convert.backbones.colour import SCALE, ZERO_POINT, Normalisation, on_pixels
from edge_convert.backbones.contract import Backbone, Published
from edge_convert.backbones.keras_application import KERAS_TABLE
from edge_convert.backbones.width import application_of_width

# The published weights' normalisation, of pixels from 0 to 1.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)
REPEATS = (1, 2, 2, 3, 3, 4, 1)


def _make(side_px: int, width: float, weights: str) -> Any:
    model = application_of_width("EfficientNetB0", side_px, width, weights)
    filled = weights != "none"
    deviation = _deviation(model, weights) if filled else np.asarray(DEVIATION)
    return on_pixels(
        model,
        Normalisation(mean=_three(255 * np.asarray(MEAN)), deviation=_three(255 * deviation)),
        after="stem_conv_pad",
        until="top_activation",
        stem="stem_conv",
        padding=model.get_layer("stem_conv_pad").padding,
        filled=filled,
    )


def _deviation(model: Any, weights: str) -> NDArray[np.float64]:
    """By what the network divides pixels from 0 to 1, each colour by its own.

    Its Normalization divides by the root of the `variance` in the file. Keras found that file to hold deviations there
    (TensorFlow bug 49930), and divides by the root of the deviation once more where it loads the published weights.
    """
    layer = next(layer for layer in model.layers if type(layer).__name__ == "Normalization")
    mean, variance = (np.asarray(part, np.float64).ravel() for part in layer.get_weights()[:2])
    if mean.size != 3 or not np.allclose(mean, MEAN, atol=1e-4):
        raise RecipeError(
            f"the weight file {weights} was not trained on ImageNet's mean colour",
            remedy="use the file that Keras downloads for EfficientNetB0, without the top layer",
        )
    return np.asarray(np.sqrt(variance) * np.sqrt(DEVIATION))


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


EFFICIENTNET_B0 = Backbone(
    name="efficientnetb0",
    title="EfficientNetB0",
    input_scale=SCALE,
    input_zero_point=ZERO_POINT,
    block_starts=(
        "stem_conv",
        "block1a_dwconv",
        *(
            f"block{stage}{'abcd'[repeat]}_expand_conv"
            for stage, repeats in enumerate(REPEATS[1:], start=2)
            for repeat in range(repeats)
        ),
    ),
    make=_make,
    has_swish=True,
    published=Published(top1=77.1, source=f"{KERAS_TABLE}; Tan and Le 2019, table 2"),
    notes="swish and squeeze-and-excite; efficientnet-lite0 is the same without them",
    quantization="loses most of all: a trained one agreed with float32 on 0.76 of the classes, on 0.98 with integer "
    "weights only; squeeze-and-excite's first layers are the worst",
)
