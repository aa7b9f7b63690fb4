"""Where the network looked: from the class activation map to a heat map over the picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.preprocess import Placement

COLOURS = cv2.COLORMAP_TURBO
BAR_SHARE = 0.06
MIN_SHOWN_SIDE_PX = 448
MAX_SHOWN_SIDE_PX = 2048


def evidence(
    class_activation: NDArray[np.float32], probabilities: NDArray[np.float32], positive: Sequence[int]
) -> NDArray[np.float32]:
    """How much each place speaks for the finding, in logits: above 0 for it, below 0 against it.

    class_activation: (rows, columns, classes); its mean over places is the class's logit (Zhou et al. 2016, eq. 2,
    with the bias). probabilities: (classes,). positive: indices of the positive classes. The map is that of the most
    probable positive class less the mean of the negative classes: softmax sees differences only, so a lone class's
    map would depend on an arbitrary common offset. Returns (rows, columns).
    """
    negative = [index for index in range(class_activation.shape[-1]) if index not in positive]
    top = max(positive, key=lambda index: float(probabilities[index]))
    return np.asarray(class_activation[..., top] - class_activation[..., negative].mean(axis=-1), np.float32)


def enlarge(heat: NDArray[np.float32], width: int, height: int) -> NDArray[np.float32]:
    """A coarse map, smoothly interpolated. heat: (rows, columns). Returns (height, width)."""
    return np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def peak(heat: NDArray[np.float32], placement: Placement, side_px: int) -> tuple[float, float]:
    """The place that speaks most for the finding, as x, y in pixels of the upright picture."""
    x, y, width, height = placement.target_xywh
    large = enlarge(heat, side_px, side_px)[y : y + height, x : x + width]
    row, column = np.unravel_index(int(np.argmax(large)), large.shape)
    return placement.to_picture(x + float(column) + 0.5, y + float(row) + 0.5)


def overlay(
    picture: NDArray[np.uint8],
    heat: NDArray[np.float32],
    placement: Placement,
    *,
    side_px: int,
    full_scale: float,
    caption: str,
) -> NDArray[np.uint8]:
    """The picture under its heat map, with a colour bar and a caption.

    picture: (height, width, 3) uint8 RGB. heat: (rows, columns) evidence in logits over the network's input.
    full_scale: evidence shown as the hottest colour. The scale is the bundle's, not the picture's own, so that a
    picture without a finding stays dark. Returns (rows, columns, 3) uint8 RGB.
    """
    x, y, w, h = placement.source_xywh
    tx, ty, tw, th = placement.target_xywh
    strength = np.clip(enlarge(heat, side_px, side_px) / full_scale, 0, 1)[ty : ty + th, tx : tx + tw]
    canvas = np.zeros(picture.shape[:2], np.float32)
    canvas[y : y + h, x : x + w] = enlarge(np.ascontiguousarray(strength), w, h)
    zoom = shown_zoom(*picture.shape[:2])
    size = (picture.shape[1] * zoom, picture.shape[0] * zoom)
    shown = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    strength = np.clip(enlarge(canvas, *size), 0, 1)
    blended = _blend(shown, strength)
    return with_caption(_with_bar(blended, full_scale), caption)


def shown_zoom(height: int, width: int) -> int:
    """How many times a small picture is enlarged to be looked at; never to more than MAX_SHOWN_SIDE_PX."""
    wanted = -(-MIN_SHOWN_SIDE_PX // min(height, width))
    return max(1, min(wanted, MAX_SHOWN_SIDE_PX // max(height, width)))


def _blend(picture: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    colours = cv2.cvtColor(cv2.applyColorMap((strength * 255).astype(np.uint8), COLOURS), cv2.COLOR_BGR2RGB)
    # Opacity rises with the evidence: what speaks for nothing is left as it was photographed.
    opacity = (0.6 * np.sqrt(strength))[..., np.newaxis]
    return np.asarray(picture * (1 - opacity) + colours * opacity + 0.5, np.float32).clip(0, 255).astype(np.uint8)


def _with_bar(picture: NDArray[np.uint8], full_scale: float) -> NDArray[np.uint8]:
    """The picture with a colour bar at its right: evidence in logits, 0 at the bottom."""
    height = picture.shape[0]
    width = max(24, int(picture.shape[1] * BAR_SHARE))
    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, np.newaxis].repeat(width, axis=1)
    bar = np.asarray(cv2.cvtColor(cv2.applyColorMap(ramp, COLOURS), cv2.COLOR_BGR2RGB), np.uint8)
    margin = np.full((height, width * 3, 3), 255, np.uint8)
    size = height / 900
    for share, value in ((1.0, full_scale), (0.5, full_scale / 2), (0.0, 0.0)):
        row = int((1 - share) * (height - 1) * 0.96 + height * 0.03)
        _write(margin, f"{value:.1f}", (4, row), size)
    return np.concatenate([picture, bar, margin], axis=1)


def with_caption(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """The picture, (rows, columns, 3) uint8 RGB, with a line of text on a white strip below it."""
    size = picture.shape[1] / 1100
    strip = np.full((int(60 * size) + 8, picture.shape[1], 3), 255, np.uint8)
    _write(strip, caption, (6, int(strip.shape[0] * 0.7)), size)
    return np.concatenate([picture, strip], axis=0)


def _write(canvas: NDArray[np.uint8], text: str, origin: tuple[int, int], size: float) -> None:
    # OpenCV's built-in strokes know ASCII only.
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(
        canvas, plain, origin, cv2.FONT_HERSHEY_SIMPLEX, size, (20, 20, 20), max(1, round(size * 2)), cv2.LINE_AA
    )
