"""Networks trained on (pixel - mean) / deviation of each colour, made to take scaled pixels as they are.

An input's quantization parameters are one scale and one zero point: they cannot normalise each colour on its own. So
the first convolution does it: its kernel and bias absorb means, deviations and order of the colours, and the network
computes what it computed. One thing does not fold: the zeros that the published network puts around its normalised
picture are the mean colour, which is no single number in pixels. `ColourPadding2D` puts that colour there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_convert.backbones.keras_application import as_it_is, copy_layers
from edge_convert.keras import keras, tensorflow

SCALE = 1 / 127.5
ZERO_POINT = 127

# What marks a grey picture's border: the whitest that the zero point leaves, a whole step of the picture's own scale.
MARK = 127 * SCALE

Padding = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """What a network was trained on: (pixel - mean) / deviation. Of red, green, blue, in pixel values 0 to 255.

    reversed: its first kernel has the colours in the order blue, green, red.
    """

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reversed: bool = False


# Keras's `caffe` mode of preprocess_input: the networks that Oxford and MSRA trained with Caffe.
CAFFE = Normalisation(mean=(123.68, 116.779, 103.939), reversed=True)


def on_pixels(
    model: Any, normalisation: Normalisation, *, after: str, until: str, stem: str, padding: Padding, filled: bool
) -> Any:
    """The network from behind `after` on, taking (pixel - ZERO_POINT) * SCALE.

    stem: its first convolution. padding: what is to be put around the picture for it, rows and columns. filled: the
    weights are trained ones, to be folded; random ones stay as they are.
    """
    side = model.input.shape[1]
    colour = tuple((mean - ZERO_POINT) * SCALE for mean in normalisation.mean)
    pixels = keras().layers.Input((side, side, 3), name="picture")
    padded = colour_padding()(padding=padding, colour=colour, name=f"{stem}_colour_pad")(pixels)

    def without_padding(layer: Any) -> tuple[dict[str, Any], list[Any]]:
        config, weights = as_it_is(layer)
        return (config | {"padding": "valid"}, weights) if layer.name == stem else (config, weights)

    plain = copy_layers(model, pixels, padded, after=after, until=until, change=without_padding)
    if filled:
        _fold(plain.get_layer(stem), normalisation)
    return plain


def _fold(stem: Any, normalisation: Normalisation) -> None:
    """Let the first convolution take scaled pixels; what is constant goes to its bias or its batch normalisation."""
    kernel, *bias = stem.get_weights()
    kernel, shift = folded(kernel, normalisation)
    if bias:
        stem.set_weights([kernel, bias[0] + shift])
        return
    stem.set_weights([kernel])
    (follower,) = (node.layer for node in stem.outbound_nodes)
    gamma, beta, mean, variance = follower.get_weights()
    follower.set_weights([gamma, beta, mean - shift, variance])


def folded(
    kernel: NDArray[np.float32], normalisation: Normalisation
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A first kernel for scaled pixels, and the constant that it then lacks.

    kernel: (rows, columns, 3, channels) over normalised colours. Returns the kernel over scaled pixels in the order
    red, green, blue, and (channels,) to be added to what it gives.
    """
    wide = kernel.astype(np.float64)
    if normalisation.reversed:
        wide = wide[:, :, ::-1]
    per_pixel = wide / np.asarray(normalisation.deviation)[:, np.newaxis]
    # pixel - mean = scaled / SCALE + (ZERO_POINT - mean)
    offset = ZERO_POINT - np.asarray(normalisation.mean)
    shift = (per_pixel.sum(axis=(0, 1)) * offset[:, np.newaxis]).sum(axis=0)
    return (per_pixel / SCALE).astype(np.float32), shift.astype(np.float32)


@functools.cache
def colour_padding() -> Any:
    """The layer class. Made on first use: its base class comes with TensorFlow."""

    class ColourPadding2D(keras().layers.Layer):  # type: ignore[misc]
        """Puts a border of one colour around pictures (n, rows, columns, 3): `ZeroPadding2D` with a colour.

        Grey pictures (n, rows, columns, 1) become two channels: the grey, 0 in the border, and a mark, MARK in the
        border and 0 inside. One channel cannot say what the border's colour is worth to a kernel; see `grey.py`.
        """

        def __init__(self, padding: Padding, colour: tuple[float, float, float], **options: Any) -> None:
            super().__init__(**options)
            self.padding, self.colour = padding, colour

        def call(self, pictures: Any) -> Any:
            """Joined from constant strips: in int8 they share the picture's scale, and no pixel is rounded again."""
            tf = tensorflow()
            if pictures.shape[-1] == 1:
                return self._marked(pictures)
            for axis, (before, behind) in zip((1, 2), self.padding, strict=True):
                parts = [self._strip(pictures, axis, before), pictures, self._strip(pictures, axis, behind)]
                pictures = tf.concat([part for part in parts if part is not None], axis)
            return pictures

        def _marked(self, pictures: Any) -> Any:
            tf = tensorflow()
            around = [(0, 0), *self.padding, (0, 0)]
            inside = np.zeros((1, *pictures.shape[1:]), np.float32)
            mark = tf.constant(np.pad(inside, around, constant_values=MARK), pictures.dtype)
            count = pictures.shape[0] or tf.shape(pictures)[0]
            return tf.concat([tf.pad(pictures, around), tf.repeat(mark, count, axis=0)], axis=-1)

        def _strip(self, pictures: Any, axis: int, width: int) -> Any:
            if not width:
                return None
            tf = tensorflow()
            shape = [pictures.shape[i] or tf.shape(pictures)[i] for i in range(4)]
            shape[axis] = width
            return tf.broadcast_to(tf.constant(self.colour, pictures.dtype), shape)

        def get_config(self) -> dict[str, Any]:
            return {**super().get_config(), "padding": self.padding, "colour": self.colour}

    return ColourPadding2D
