"""From pixels to a network's input tensor and from its scores to probabilities, as the bundle's entry says."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle import Activation, ModelFile


class InputEncoder:
    """Pictures as one model file takes them.

    What a pixel becomes depends on nothing but its value and its channel, so it is looked up in a table.
    """

    def __init__(self, entry: ModelFile, *, channels: int, scale: float, zero_point: int) -> None:
        """entry: how to talk to the file. scale, zero_point: of its input tensor, where that is quantized."""
        self._entry = entry
        self._table = input_table(entry, channels=channels, scale=scale, zero_point=zero_point)

    def __call__(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """The input tensor with its batch axis. picture: (side_px, side_px, channels) uint8, RGB or grey."""
        ordered: NDArray[Any] = picture
        if self._entry.input_order == "bgr":
            ordered = np.ascontiguousarray(picture[..., ::-1])
        if self._table is not None:
            ordered = cv2.LUT(ordered, self._table[np.newaxis]).reshape(picture.shape)
        if self._entry.input_layout == "nchw":
            ordered = np.ascontiguousarray(ordered.transpose(2, 0, 1))
        return ordered[np.newaxis]


def input_table(entry: ModelFile, *, channels: int, scale: float, zero_point: int) -> NDArray[Any] | None:
    """What each pixel value becomes, (256, channels) of the input's type; None where it stays as it is.

    A quantized input with a mean and a deviation takes the nearest step of its own scale, held to its range.
    """
    pixels = np.arange(256, dtype=np.float32)[:, np.newaxis]
    kind = np.dtype(entry.input_dtype)
    table: NDArray[Any]
    if entry.input_mean:
        real = (pixels - np.array(entry.input_mean, np.float32)) / np.array(entry.input_std, np.float32)
        if kind == np.float32:
            table = real
        else:
            limits = np.iinfo(kind)
            table = np.rint(real / np.float32(scale) + zero_point).clip(limits.min, limits.max)
    elif kind == np.float32:
        table = (pixels - entry.input_zero_point) * np.float32(entry.input_scale)
    else:
        table = pixels + np.iinfo(kind).min
    if kind == np.uint8 and (table == pixels).all():
        return None
    return np.ascontiguousarray(np.broadcast_to(table, (256, channels)).astype(kind))


def to_probabilities(scores: NDArray[np.float32], activation: Activation, classes: int) -> NDArray[np.float32]:
    """Probabilities, (classes,), from a file's real-valued scores, (classes,).

    One score for two classes is that of the second, the first has the rest.
    """
    if activation == "softmax":
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum(), np.float32)
    if activation == "sigmoid":
        # 1 / (1 + exp(-x)) without overflow.
        scores = np.asarray(0.5 * (1 + np.tanh(scores / 2)), np.float32)
    if len(scores) == 1 and classes == 2:
        return np.array([1 - scores[0], scores[0]], np.float32)
    return scores
