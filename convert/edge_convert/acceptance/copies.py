"""Copies of training pictures: made worse, for what is to be refused, and changed as another camera would, for what is
not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.preprocess import Placement

Picture = NDArray[np.uint8]

BLUR_SHARES = (2 / 224, 4 / 224)
"""Of the input's side: the blur of the copies that focus is learned from; 2 and 4 px of 224."""

NOISE_LEVELS = (0.0, 2.0)
"""Of a blurred copy's grey levels: a lens blurs before the sensor adds its noise."""

BRIGHTNESS, CAST, NOISE, JPEG = 0.10, 0.05, 3.0, (50, 95)
"""Of another camera: up to a tenth brighter or darker, a channel 5 % off another, noise of up to three grey levels, and
JPEG from the worst quality that cameras write to the best."""


def blurred(picture: Picture, place: Placement, random: np.random.Generator) -> Iterator[Picture]:
    """Copies out of focus, without and with a sensor's noise. picture: (side, side, channels) uint8, an input."""
    side = picture.shape[0]
    for share in BLUR_SHARES:
        inner = _channels(cv2.GaussianBlur(_inner(picture, place), (0, 0), share * side))
        for noise in NOISE_LEVELS:
            grain = random.normal(0, noise, (*inner.shape[:2], 1)) if noise else np.zeros(1)
            yield _with_inner(picture, place, inner + grain)


def by_another_camera(picture: Picture, place: Placement, random: np.random.Generator) -> Picture:
    """A copy with another brightness, white balance, noise and JPEG quality, that a trained person would read alike."""
    inner = _inner(picture, place).astype(np.float64) * (1 + random.uniform(-BRIGHTNESS, BRIGHTNESS))
    if inner.shape[2] == 3:
        inner *= 1 + random.uniform(-CAST, CAST, 3)
    inner += random.normal(0, random.uniform(0, NOISE), (*inner.shape[:2], 1))
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(*JPEG, endpoint=True))]
    # Channels in the order of OpenCV: JPEG keeps them apart by colour.
    written = cv2.imencode(".jpg", inner.clip(0, 255).astype(np.uint8)[..., ::-1], quality)[1]
    read = _channels(cv2.imdecode(written, cv2.IMREAD_UNCHANGED))
    return _with_inner(picture, place, read[..., ::-1])


def _inner(picture: Picture, place: Placement) -> Picture:
    x, y, w, h = place.target_xywh
    return picture[y : y + h, x : x + w]


def _with_inner(picture: Picture, place: Placement, inner: NDArray[np.generic]) -> Picture:
    copy = np.array(picture)
    _inner(copy, place)[:] = np.asarray(inner, np.float64).clip(0, 255).astype(np.uint8)
    return copy


def _channels(plane: Any) -> Picture:
    """With its axis of channels, which OpenCV drops where there is one."""
    array = np.asarray(plane, np.uint8)
    return array if array.ndim == 3 else array[..., np.newaxis]
