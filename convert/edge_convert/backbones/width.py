"""The width multiplier: every layer with more or fewer channels, as Howard et al. 2017 (MobileNet) introduced it."""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.keras_application import application, copy_layers
from edge_convert.keras import keras

MULTIPLE = 8
# EfficientNet's squeeze: a quarter of a block's entry, 4 to 48 channels that no multiple of 8 would fit.
SQUEEZE = "_se_reduce"


def channels(published: int, width: float) -> int:
    """Channels times the width multiplier, to a multiple of 8 and never more than 10 % below; at 1 as published."""
    if width == 1.0:
        return published
    rounded = max(MULTIPLE, int(published * width + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return rounded + MULTIPLE if rounded < 0.9 * published * width else rounded


def application_of_width(title: str, side_px: int, width: float, weights: str) -> Any:
    """As `application`, for a network that Keras has at one width only."""
    if width == 1.0:
        return application(title, side_px, weights)
    return application(title, side_px, weights, change=lambda model: widened(model, width))


def widened(model: Any, width: float) -> Any:
    """A flat model with another number of channels in every convolution, and new random weights.

    Layers that were added or joined still fit: the same number of channels becomes the same number. Depthwise
    convolutions follow what they are given.
    """
    layers = keras().layers

    def change(layer: Any) -> tuple[dict[str, Any], None]:
        config = layer.get_config()
        if layer.name.endswith(SQUEEZE):
            config["filters"] = max(1, round(config["filters"] * width))
        elif isinstance(layer, layers.Conv2D):
            config["filters"] = channels(config["filters"], width)
        elif isinstance(layer, layers.Reshape):
            *places, published = config["target_shape"]
            config["target_shape"] = (*places, channels(published, width))
        return config, None

    entry, last = model.layers[0], model.layers[-1]
    picture = layers.Input(entry.input_shape[0][1:], name=entry.name)
    return copy_layers(model, picture, picture, after=entry.name, until=last.name, change=change)
