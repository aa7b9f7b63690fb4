"""Where the network looked: from its outputs to a heat map over the picture.

The kinds of map are in docs/saliency.md, with what each was measured to be worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle import ModelFile, Role
from edge.errors import EdgeError
from edge.preprocess import Placement
from edge.saliency import MapScale, Method
from edge_runtime import lettering

COLOURS = cv2.COLORMAP_TURBO
UNSEEN_LIGHT = 0.3
BAR_SHARE = 0.06
MIN_SHOWN_SIDE_PX = 448
MAX_SHOWN_SIDE_PX = 2048
LARGEST_LETTERS = 550
"""Letters are of size 1 (capitals about 22 px high) on a picture of so many pixels, or smaller where room is short."""

CAPTION_LEFT_PX = 6


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


def refine(coarse: NDArray[np.float32], fine: NDArray[np.float32]) -> NDArray[np.float32]:
    """Evidence of the last layer held against that of a finer one: their geometric mean where both are for the finding.

    coarse: (rows, columns), fine: (about twice as many), both in logits. Elsewhere it is the lesser of the two, so that
    a place the finer layer marks and the classifier does not count stays dark. Returns the shape of `fine`.
    """
    large = enlarge(coarse, fine.shape[1], fine.shape[0])
    both = (large > 0) & (fine > 0)
    return np.asarray(np.where(both, np.sqrt(np.abs(large * fine)), np.minimum(large, fine)), np.float32)


Read = Callable[[str], NDArray[np.float32]]
"""Gives the last run's output by role, without the batch axis."""


def _class_activation(read: Read, outputs: NDArray[np.float32], positive: Sequence[int]) -> NDArray[np.float32]:
    return evidence(read("class_activation"), outputs, positive)


def _fine(read: Read, outputs: NDArray[np.float32], positive: Sequence[int]) -> NDArray[np.float32]:
    coarse = _class_activation(read, outputs, positive)
    return refine(coarse, evidence(read("fine_activation"), outputs, positive))


FROM_OUTPUTS: Mapping[
    Method, tuple[Callable[[Read, NDArray[np.float32], Sequence[int]], NDArray[np.float32]], Role]
] = {
    "fine": (_fine, "fine_activation"),
    "cam": (_class_activation, "class_activation"),
}
"""The maps that come with every verdict: how each is made, and the output without which it cannot be."""


def methods(model: ModelFile) -> tuple[Method, ...]:
    """The kinds of map that a model can give."""
    found: list[Method] = [method for method, (_, role) in FROM_OUTPUTS.items() if role in model.outputs]
    return (*found, model.explanation.method) if model.explanation else tuple(found)


def check_method(method: str | None, model: ModelFile) -> Method | None:
    """The named kind of map, if any. Raises EdgeError where the model cannot give it."""
    has = methods(model)
    for known in has:
        if method == known:
            return known
    if method is None:
        return None
    raise EdgeError(
        f"this model gives no map of the kind {method!r}",
        remedy=f"use one of: {', '.join(has)}" if has else "screen without a map",
    )


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
    scale: MapScale,
    caption: str,
) -> NDArray[np.uint8]:
    """The picture under its heat map, with a colour bar and a caption.

    picture: (height, width, 3) uint8 RGB. heat: (rows, columns) evidence in logits over the network's input.
    scale: what is shown as nothing and as the hottest colour. It is the bundle's, not the picture's own, so that a
    picture without a finding stays dark. What the network did not see of the picture is dimmed, outside a frame.
    Returns (rows, columns, 3) uint8 RGB.
    """
    x, y, w, h = placement.source_xywh
    tx, ty, tw, th = placement.target_xywh
    span = scale.full_scale - scale.background
    strength = np.clip((enlarge(heat, side_px, side_px) - scale.background) / span, 0, 1)[ty : ty + th, tx : tx + tw]
    canvas = np.zeros(picture.shape[:2], np.float32)
    canvas[y : y + h, x : x + w] = enlarge(np.ascontiguousarray(strength), w, h)
    zoom = shown_zoom(*picture.shape[:2])
    size = (picture.shape[1] * zoom, picture.shape[0] * zoom)
    shown = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    strength = np.clip(enlarge(canvas, *size), 0, 1)
    blended = _blend(shown, strength)
    if (w, h) != (picture.shape[1], picture.shape[0]):
        blended = _dimmed_outside(blended, (x * zoom, y * zoom, w * zoom, h * zoom))
    return with_caption(_with_bar(blended, scale), caption)


def _dimmed_outside(shown: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    x, y, w, h = box
    dimmed = np.asarray(shown * UNSEEN_LIGHT, np.uint8)
    frame = max(1, min(w, h) // 150)
    dimmed[max(0, y - frame) : y + h + frame, max(0, x - frame) : x + w + frame] = 255
    dimmed[y : y + h, x : x + w] = shown[y : y + h, x : x + w]
    return dimmed


def shown_zoom(height: int, width: int) -> int:
    """How many times a small picture is enlarged to be looked at; never to more than MAX_SHOWN_SIDE_PX."""
    wanted = -(-MIN_SHOWN_SIDE_PX // min(height, width))
    return max(1, min(wanted, MAX_SHOWN_SIDE_PX // max(height, width)))


def _blend(picture: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    colours = cv2.cvtColor(cv2.applyColorMap((strength * 255).astype(np.uint8), COLOURS), cv2.COLOR_BGR2RGB)
    # Opacity rises with the evidence: what speaks for nothing is left as it was photographed.
    opacity = (0.6 * np.sqrt(strength))[..., np.newaxis]
    return np.asarray(picture * (1 - opacity) + colours * opacity + 0.5, np.float32).clip(0, 255).astype(np.uint8)


def _with_bar(picture: NDArray[np.uint8], scale: MapScale) -> NDArray[np.uint8]:
    """The picture with a colour bar at its right: evidence in logits, the background's at the bottom."""
    height = picture.shape[0]
    width = max(24, int(picture.shape[1] * BAR_SHARE))
    ramp = np.linspace(255, 0, height).astype(np.uint8)[:, np.newaxis].repeat(width, axis=1)
    bar = np.asarray(cv2.cvtColor(cv2.applyColorMap(ramp, COLOURS), cv2.COLOR_BGR2RGB), np.uint8)
    margin = np.full((height, width * 3, 3), 255, np.uint8)
    middle = (scale.background + scale.full_scale) / 2
    values = [f"{value:.1f}" for value in (scale.full_scale, middle, scale.background)]
    size = min(lettering.largest_size(value, margin.shape[1] - 8, most=height / LARGEST_LETTERS) for value in values)
    # The base of the uppermost line lies a letter's height below the edge.
    for value, row in zip(values, np.linspace(24 * size, height - 3, 3), strict=True):
        lettering.write(margin, value, (4, round(row)), size)
    return np.concatenate([picture, bar, margin], axis=1)


def with_caption(picture: NDArray[np.uint8], caption: str) -> NDArray[np.uint8]:
    """The picture, (rows, columns, 3) uint8 RGB, with a line of text on a white strip below it, as large as fits."""
    columns = picture.shape[1]
    size = lettering.largest_size(caption, columns - 2 * CAPTION_LEFT_PX, most=columns / LARGEST_LETTERS)
    strip = np.full((int(45 * size) + 8, columns, 3), 255, np.uint8)
    lettering.write(strip, caption, (CAPTION_LEFT_PX, int(strip.shape[0] * 0.7)), size)
    return np.concatenate([picture, strip], axis=0)
