"""Swish made ReLU6, as EfficientNet-Lite did it to EfficientNet: a bounded range, and one integer operation less.

In int8 swish is two operations and three roundings, and its unbounded output sets a range that few values fill.
"""

from __future__ import annotations

from typing import Any

from edge_convert.backbones.keras_application import as_it_is, copy_layers
from edge_convert.keras import keras

SWISH = "swish"
RELU6 = "relu6"


def with_relu6(model: Any) -> Any:
    """A copy of a flat model with its weights and ReLU6 wherever it has swish, inside convolutions too.

    It computes something else than before and must be trained on. A gate's sigmoid stays.
    """

    def change(layer: Any) -> tuple[dict[str, Any], list[Any]]:
        config, weights = as_it_is(layer)
        return (config | {"activation": RELU6} if config.get("activation") == SWISH else config), weights

    entry, last = model.layers[0], model.layers[-1]
    picture = keras().layers.Input(entry.input_shape[0][1:], name=entry.name)
    return copy_layers(model, picture, picture, after=entry.name, until=last.name, change=change)
