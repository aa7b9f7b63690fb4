"""Layers that do not learn, run by the TFLite interpreter while those above them do.

On a processor TensorFlow's forward pass through convolutions takes two to three times as long as the interpreter's, and
fine-tuning spends half of its time in layers that do not learn. The numbers agree to float32's rounding, and do not
depend on how the pictures are shared out among threads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.native_stderr import without_chatter
from edge_convert.backbones import find_backbone
from edge_convert.backbones.contract import Backbone
from edge_convert.export import INPUT, SCREEN, convert_functions
from edge_convert.keras import keras, tensorflow
from edge_convert.network import in_batches, run_batches, scaled
from edge_convert.recipe import Recipe
from edge_runtime.interpreter import find_interpreter

WORTH_CONVERTING = 2048
"""Pictures that must pass through at least: converting takes as long as about a thousand passes save."""


class Frozen:
    """A network that does not learn, as a function of pictures."""

    def __init__(self, recipe: Recipe, model: Any) -> None:
        """model: of tf_keras, from a scaled picture to one tensor."""
        self._backbone = find_backbone(recipe.network.backbone)
        file = _as_tflite(recipe, model)
        with without_chatter():
            self._interpreters = [_ready(file) for _ in range(len(os.sched_getaffinity(0)))]
        self._threads = ThreadPoolExecutor(len(self._interpreters))

    def __call__(self, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What it makes of pictures: (n, side, side, channels) uint8 -> (n, ...) float32."""
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


@dataclass(frozen=True, kw_only=True)
class Halves:
    """A network cut where nothing below learns. upper: a tf_keras model of what `lower` makes of pictures."""

    lower: Frozen
    upper: Any


def cut_in_two(recipe: Recipe, model: Any) -> Halves | None:
    """The frozen lower part of a network and what learns; None where nothing is frozen."""
    start = learns_from(model, find_backbone(recipe.network.backbone))
    if start is None:
        return None
    border = model.get_layer(start).input
    return Halves(lower=Frozen(recipe, keras().Model(model.input, border)), upper=keras().Model(border, model.output))


def pays(recipe: Recipe, pictures: int) -> bool:
    """Whether so many pictures are worth a conversion. A GPU, several devices and 16 bits are used as asked for."""
    train = recipe.train
    plain = train.strategy == "none" and train.precision == "float32"
    return plain and pictures >= WORTH_CONVERTING and not tensorflow().config.list_physical_devices("GPU")


def learns_from(model: Any, backbone: Backbone) -> str | None:
    """The layer that begins the last block below which nothing learns; None where nothing is frozen."""
    starts = set(backbone.block_starts)
    found, has_weights = None, False
    for layer in model.layers:
        # A pruned layer is wrapped; its own name is what it wraps.
        if has_weights and getattr(layer, "layer", layer).name in starts:
            found = layer.name
        # What drops out is another network at every step, though it does not learn.
        if layer.trainable_variables or getattr(layer, "rate", 0):
            break
        has_weights = has_weights or bool(layer.weights)
    return found


def run_frozen(
    recipe: Recipe, model: Any, pictures: NDArray[np.uint8], rows: NDArray[np.int64]
) -> Iterator[NDArray[np.float32]]:
    """The output of a network that does not learn, for PREDICT_BATCH of the rows at a time; see `run_batches`."""
    if not pays(recipe, len(rows)):
        yield from run_batches(model, pictures, rows, find_backbone(recipe.network.backbone))
        return
    frozen = Frozen(recipe, model)
    for part in in_batches(rows):
        yield frozen(pictures[part])


def _as_tflite(recipe: Recipe, model: Any) -> bytes:
    tf = tensorflow()
    given = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name=INPUT)
    function = tf.function(lambda x: {"made": model(x, training=False)}, input_signature=[given], autograph=False)
    return convert_functions(recipe, model, {SCREEN: function}, calibration=None)


def _ready(file: bytes) -> Any:
    _, interpreter_class = find_interpreter()
    interpreter = interpreter_class(model_content=file, num_threads=1)
    interpreter.allocate_tensors()
    return interpreter
