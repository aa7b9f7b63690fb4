"""The frozen lower part of a network, run by the TFLite interpreter while the upper part learns.

On a processor TensorFlow's forward pass through convolutions takes two to three times as long as the interpreter's, and
fine-tuning spends half of its time in layers that do not learn. The numbers agree to float32's rounding, and do not
depend on how the pictures are shared out among threads.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.native_stderr import without_chatter
from edge_convert.backbones import find_backbone
from edge_convert.backbones.contract import Backbone
from edge_convert.export import INPUT, SCREEN, convert_functions
from edge_convert.keras import keras, tensorflow
from edge_convert.network import scaled
from edge_convert.recipe import Recipe
from edge_runtime.interpreter import find_interpreter

WORTH_CONVERTING = 4096
"""Pictures that must pass through it at least: converting it takes as long as some two thousand passes save."""


class Trunk:
    """The layers in front of `upper`, as a function of pictures. upper: what learns, as a model of their output."""

    def __init__(self, recipe: Recipe, model: Any, start: str) -> None:
        """start: the layer that `upper` begins with; it must be a cut of the network."""
        border = model.get_layer(start).input
        self.upper = keras().Model(border, model.output)
        self._backbone = find_backbone(recipe.network.backbone)
        lower = _as_tflite(keras().Model(model.input, border), recipe)
        with without_chatter():
            self._interpreters = [_ready(lower) for _ in range(len(os.sched_getaffinity(0)))]
        self._threads = ThreadPoolExecutor(len(self._interpreters))

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the frozen layers make of pictures. (n, side, side, channels) uint8 -> (n, rows, columns, channels)."""
        parts = [part for part in np.array_split(pictures, len(self._interpreters)) if len(part)]
        return np.concatenate(list(self._threads.map(self._run, self._interpreters, parts)))

    def _run(self, interpreter: Any, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        given, made = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
        found = []
        # One at a time: the maps of a whole batch would not fit into the processor's cache.
        for picture in pictures:
            interpreter.set_tensor(given, scaled(picture[np.newaxis], self._backbone))
            interpreter.invoke()
            found.append(interpreter.get_tensor(made))
        return np.concatenate(found)


def trunk_start(model: Any, backbone: Backbone) -> str | None:
    """The layer that begins the last block below which nothing learns; None where nothing is frozen."""
    starts = set(backbone.block_starts)
    found, has_weights = None, False
    for layer in model.layers:
        # A pruned layer is wrapped; its own name is what it wraps.
        if has_weights and getattr(layer, "layer", layer).name in starts:
            found = layer.name
        if layer.trainable_variables:
            break
        has_weights = has_weights or bool(layer.weights)
    return found


def _as_tflite(lower: Any, recipe: Recipe) -> bytes:
    tf = tensorflow()
    given = tf.TensorSpec((1, *lower.input_shape[1:]), tf.float32, name=INPUT)
    function = tf.function(lambda x: {"border": lower(x, training=False)}, input_signature=[given], autograph=False)
    return convert_functions(recipe, lower, {SCREEN: function}, calibration=None)


def _ready(model: bytes) -> Any:
    _, interpreter_class = find_interpreter()
    interpreter = interpreter_class(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter
