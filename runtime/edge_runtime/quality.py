"""What a picture is like, in some fourteen numbers: light, contrast, detail and colour of what the network sees.

Taken from the network's input, so that the limits which a build learned mean the same on every device. From them come
the measures of quality, and how far a picture as a picture is from those of training.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.acceptance import Acceptance
from edge.errors import BundleError
from edge.preprocess import Placement

Floats = NDArray[np.float64]

DETAIL = ("detail_2px", "peaks_2px", "detail_4px", "peaks_4px", "detail_8px", "peaks_8px")
COLOUR = ("red_green", "blue_green", "red_green_spread", "blue_green_spread")
GREY_FEATURES = ("brightness", "contrast", "white", "black", *DETAIL)
FEATURES = (*GREY_FEATURES, *COLOUR)
"""By name, in their order; a network of one channel has GREY_FEATURES. Each in units of about one step that shows."""

WHITE, BLACK = 250, 5
SCALES = 3
PEAK_SHARE = 0.98
# Eight is added so that a dark picture's rounding is no colour.
LOGS = np.log(np.arange(256, dtype=np.float32) + 8)


def feature_names(channels: int) -> tuple[str, ...]:
    """What `features` gives for a network's input of so many channels."""
    return FEATURES if channels == 3 else GREY_FEATURES


def features(tensor: NDArray[np.uint8], placement: Placement) -> Floats:
    """A picture in numbers: (14,), or (10,) where the network sees grey. Letterbox padding is left out.

    tensor: (side_px, side_px, channels) uint8. brightness: mean luma / 25.5. contrast: 2 ln of its standard deviation.
    white, black: five times the share of pixels at either end. detail_N: ln of the mean square of what a 3x3 mean takes
    away from the luma at that scale; peaks_N: 2 ln of its 98th percentile. red_green, blue_green: 8 times the mean log
    ratio of two channels; spread: 2 ln of its standard deviation.
    """
    x, y, w, h = placement.target_xywh
    inner = tensor[y : y + h, x : x + w]
    luma = inner[..., 0] if inner.shape[2] == 1 else cv2.cvtColor(inner, cv2.COLOR_RGB2GRAY)
    mean, spread = (float(part.item()) for part in cv2.meanStdDev(luma))
    found = [
        mean / 25.5,
        2 * np.log(spread + 1),
        5 * np.count_nonzero(luma >= WHITE) / luma.size,
        5 * np.count_nonzero(luma <= BLACK) / luma.size,
        *_detail(np.asarray(luma)),
    ]
    return np.array(found if inner.shape[2] == 1 else [*found, *_colours(inner)])


def quality(acceptance: Acceptance, found: Floats, placement: Placement) -> dict[str, float]:
    """The measures of quality but colour, from `features`.

    size_px: shorter side of the part that was used, in the picture's pixels. brightness: mean luma, 0 to 255. white:
    share of its pixels. contrast: standard deviation of luma. focus: without unit, falls as a picture blurs.
    """
    return {
        "size_px": float(min(placement.source_xywh[2:])),
        "brightness": 25.5 * float(found[0]),
        "contrast": float(np.exp(found[1] / 2) - 1),
        "white": float(found[2]) / 5,
        "focus": float(found @ np.array(acceptance.focus_weights)),
    }


def require_features(acceptance: Acceptance, channels: int) -> None:
    """Raise BundleError where the bundle's limits are of other features than this version measures."""
    if acceptance.features != feature_names(channels):
        raise BundleError(
            "its limits for pictures are of measures that this version does not take",
            remedy="install the version of edge-screen that made it, or convert again",
        )


def _detail(luma: NDArray[np.uint8]) -> list[float]:
    """Mean square and 98th percentile of the fine structure at three scales, each half as fine as the one before.

    The finest pixels are passed over: noise and JPEG decide there, not the lens.
    """
    found: list[float] = []
    plane = luma.astype(np.float32)
    for _ in range(SCALES):
        plane = np.asarray(cv2.resize(plane, _half(plane), interpolation=cv2.INTER_AREA))
        smooth = cv2.blur(plane, (3, 3), borderType=cv2.BORDER_REPLICATE)
        fine = np.asarray(cv2.absdiff(plane, smooth), np.float32).ravel()
        power = float(fine @ fine) / fine.size
        found += [math.log(power + 0.05), 2 * math.log(_peak(fine, math.sqrt(power)) + 0.2)]
    return found


def _peak(fine: NDArray[np.float32], typical: float) -> float:
    """The 98th percentile. typical: the root mean square, which says where to look; the value does not depend on it."""
    place = int(PEAK_SHARE * (fine.size - 1))
    above = fine[fine > 2 * typical]
    # To order the few largest takes a tenth of the time that ordering all takes.
    inside = place - (fine.size - above.size)
    return float(np.partition(fine, place)[place] if inside < 0 else np.partition(above, inside)[inside])


def _colours(inner: NDArray[np.uint8]) -> list[float]:
    """Mean and spread of the log ratios red to green and blue to green, of a picture a quarter as large."""
    quarter: NDArray[np.uint8] = inner
    for _ in range(2):
        quarter = np.asarray(cv2.resize(quarter, _half(quarter), interpolation=cv2.INTER_AREA), np.uint8)
    red, green, blue = cv2.LUT(quarter, LOGS).reshape(-1, 3).T
    # OpenCV's sums are ten times as fast here as numpy's.
    means, spreads = np.array([cv2.meanStdDev(ratio) for ratio in (red - green, blue - green)]).reshape(2, 2).T
    return [*(8 * means).tolist(), *(2 * np.log(spreads + 0.03)).tolist()]


def _half(plane: NDArray[np.generic]) -> tuple[int, int]:
    return max(plane.shape[1] // 2, 1), max(plane.shape[0] // 2, 1)
