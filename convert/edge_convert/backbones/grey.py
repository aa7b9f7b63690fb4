"""A network of coloured pictures made to take grey ones: one channel in, and on it what three equal ones gave.

The first kernel is summed over the colours, which is exact. Where the picture stands in a border of one colour
(`ColourPadding2D`), the border becomes a second channel: a mark, and behind it what the colour was worth to the kernel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones.colour import MARK, colour_padding
from edge_convert.dropout import seeded_dropout
from edge_convert.keras import keras


def on_grey(model: Any) -> Any:
    """The network from (side, side, 1) on. model: flat, from (side, side, 3) on, not changed.

    It gives for a grey picture what `model` gives for its copy in three equal channels.
    """
    config = model.get_config()
    entry = config["layers"][0]["config"]
    entry["batch_input_shape"] = (*entry["batch_input_shape"][:-1], 1)
    own = {"ColourPadding2D": colour_padding(), "SeededDropout": seeded_dropout()}
    copy = model.__class__.from_config(config, custom_objects=own)
    stem = next(layer for layer in model.layers if isinstance(layer, keras().layers.Conv2D))
    borders = [layer.colour for layer in model.layers if isinstance(layer, colour_padding())]
    for layer in model.layers:
        weights = layer.get_weights()
        if layer is stem:
            weights[0] = summed(weights[0], borders[0] if borders else None)
        copy.get_layer(layer.name).set_weights(weights)
    return copy


def summed(kernel: NDArray[np.float32], border: tuple[float, float, float] | None) -> NDArray[np.float32]:
    """A first kernel for grey. kernel: (rows, columns, 3, channels). border: the colour around the picture, scaled.

    Returns (rows, columns, 1, channels), or 2 for grey and mark where there is a border.
    """
    wide = kernel.astype(np.float64)
    parts = [wide.sum(axis=2, keepdims=True)]
    if border is not None:
        colour = np.asarray(border)[:, np.newaxis] / MARK
        parts.append((wide * colour).sum(axis=2, keepdims=True))
    return np.concatenate(parts, axis=2).astype(np.float32)
