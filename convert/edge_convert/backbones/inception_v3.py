"""InceptionV3 (Szegedy et al. 2016), from tf_keras.applications.

Keras leaves its convolutions unnamed, numbered by how many the process has made, and its batch normalisations without
a factor. Here each layer has a name that is the same in every run, and the factor, at 1, that pruning wants.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from edge_convert.backbones.contract import Backbone, Published
from edge_convert.backbones.keras_application import KERAS_TABLE, copy_layers
from edge_convert.backbones.width import application_of_width
from edge_convert.keras import keras

BLOCKS = 11
KINDS = {
    "InputLayer": "picture",
    "Conv2D": "conv",
    "MaxPooling2D": "max_pool",
    "AveragePooling2D": "average_pool",
    "Concatenate": "join",
}


def _make(side_px: int, width: float, weights: str) -> Any:
    model = application_of_width("InceptionV3", side_px, width, weights)
    names = _names(model)
    normalisation = keras().layers.BatchNormalization

    def change(layer: Any) -> tuple[dict[str, Any], list[Any]]:
        config, filled = layer.get_config() | {"name": names[layer.name]}, layer.get_weights()
        if isinstance(layer, normalisation):
            return config | {"scale": True}, [np.ones_like(filled[0]), *filled]
        return config, filled

    picture = keras().layers.Input((side_px, side_px, 3), name="picture")
    first = model.layers[0].name
    return copy_layers(model, picture, picture, after=first, until=f"mixed{BLOCKS - 1}", change=change)


def _names(model: Any) -> dict[str, str]:
    """A lasting name for each layer: its block and kind, counted; or what it follows, and its kind."""
    layers = keras().layers
    names: dict[str, str] = {}
    counts = Counter[str]()
    place, block = "stem", 0
    for layer in model.layers:
        if layer.name == f"mixed{block}":
            block += 1
            place, names[layer.name] = f"mixed{block}", layer.name
        elif isinstance(layer, layers.BatchNormalization):
            names[layer.name] = f"{names[_before(layer).name]}_bn"
        elif isinstance(layer, layers.Activation):
            names[layer.name] = f"{names[_before(layer).name].removesuffix('_bn')}_relu"
        else:
            kind = f"{place}_{KINDS[type(layer).__name__]}"
            names[layer.name] = f"{kind}_{counts[kind]}"
            counts[kind] += 1
            if names[layer.name] == "stem_max_pool_1":
                place = "mixed0"
    return names


def _before(layer: Any) -> Any:
    """The layer whose output it takes."""
    return layer.inbound_nodes[0].inbound_layers


INCEPTION_V3 = Backbone(
    name="inceptionv3",
    title="InceptionV3",
    # As MobileNetV2: trained on pixel / 127.5 - 1.
    input_scale=1 / 127.5,
    input_zero_point=127,
    block_starts=("stem_conv_0", *(f"mixed{index}_conv_0" for index in range(BLOCKS))),
    make=_make,
    min_side_px=75,
    published=Published(top1=77.9, source=f"{KERAS_TABLE} (299 px)"),
    notes="large for a small device",
    quantization="ReLU only; the branches of a join share one scale, set by the widest",
)
