"""Copies of one picture among many: re-encoded, resized, trimmed, brighter or darker, mirrored, turned.

Two stages. A screen: every picture against every other, as one matrix product per variant of 16 x 16
details. A confirmation of the few pairs that pass: align the two 64 x 64 thumbnails, then correlate their
details. The thresholds were set on chest radiographs and on blood smear tiles; see the constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_convert.progress import Progress, Steps

Floats = NDArray[np.float32]

SIDE_PX = 64
"""Of a thumbnail."""

SCREEN = 0.75
"""Correlation of the 16 x 16 details above which a pair is looked at; trimmed radiographs stay above 0.84."""

CONFIRMED = 0.94
"""Correlation of the aligned details of a copy. Radiographs of different patients reach 0.92."""

CONFIRMED_UNUSUAL = 0.85
"""The same of what sets the two pictures apart from the rest of the set.

Without it, all pictures with the round field of a microscope in a black frame would be copies.
"""

FIXED = 1.5
"""Mean over spread of the details above which a place looks the same in every picture: a frame, a ruler."""

FEWEST_FOR_USUAL = 30
"""Pictures below which what is usual in the set cannot be told from the pictures themselves."""

LEAST_SHARED = 0.1
"""Part of a thumbnail below which there is too little to compare."""

FURTHEST_PX = 8.0
"""How far the alignment may move a corner of a thumbnail: an eighth of its side."""

FAINTEST = 1.0
"""Standard deviation of the details, in grey levels, below which a picture is too flat to compare."""

MOST_CANDIDATES = 20
"""Pairs that are looked at for one picture and one orientation, the likeliest first."""

_BLOCK = 512
_COARSE_PX = 16
# zoom, shift x, shift y in thumbnail pixels: what trimming up to 3 % of each side does to the details.
_TRIMMED = ((1.0, 0, 0), (1.06, 0, 0), (1.03, -1, -1), (1.03, -1, 1), (1.03, 1, -1), (1.03, 1, 1))
_AS_IT_IS = _TRIMMED[:1]


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Two pictures that are one, by their places in the list. likeness: correlation of their details, to 1."""

    first: int
    second: int
    likeness: float


@dataclass(frozen=True, kw_only=True)
class _Usual:
    """Mean and spread of the details over the set, (64, 64) each; empty for a small set.

    free: the places that do not look the same in every picture, (64, 64).
    """

    mean: Floats
    spread: Floats
    free: NDArray[np.bool_]

    def of(self, details: Floats) -> Floats:
        """What is unusual in these details, in spreads."""
        if len(self.mean) == 0:
            return details
        return (details - self.mean) / self.spread


def method() -> dict[str, Any]:
    """What is looked for and how, for a record."""
    return {
        "method": "correlation of high-passed details of aligned thumbnails, in eight orientations",
        "thumbnail_px": SIDE_PX,
        "screen": SCREEN,
        "confirmed": CONFIRMED,
        "confirmed_unusual": CONFIRMED_UNUSUAL,
        "furthest_px": FURTHEST_PX,
    }


def thumbnail(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey, squeezed to a square. picture: (rows, columns, 3) uint8 RGB. Returns (64, 64) uint8."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(grey, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def find_copies(thumbnails: NDArray[np.uint8]) -> Steps[tuple[Copy, ...]]:
    """Pairs of thumbnails that show one picture, in order; yields how many thumbnails were compared.

    thumbnails: (n, 64, 64) uint8. Flat pictures are compared with nothing.
    """
    kept = np.flatnonzero([float(_details(t).std()) >= FAINTEST for t in thumbnails])
    thumbnails = thumbnails[kept]
    usual = _usual(thumbnails)
    coarse = _coarse(thumbnails, usual, _AS_IT_IS[0])
    found: dict[tuple[int, int], float] = {}
    for start in range(0, len(thumbnails), _BLOCK):
        yield Progress(done=start, total=len(thumbnails))
        block = thumbnails[start : start + _BLOCK]
        for turn, variants in _ORIENTATIONS:
            turned = np.stack([turn(t) for t in block])
            for i, j in _screen(turned, coarse, usual, variants):
                pair = (min(start + i, j), max(start + i, j))
                if start + i == j or pair in found:
                    continue
                likeness = _confirm(turned[i], thumbnails[j], usual)
                if likeness:
                    found[pair] = likeness
    yield Progress(done=len(thumbnails), total=len(thumbnails))
    return tuple(
        Copy(first=int(kept[i]), second=int(kept[j]), likeness=round(found[i, j], 4)) for i, j in sorted(found)
    )


def _turns() -> Iterator[tuple[Callable[[NDArray[np.uint8]], NDArray[np.uint8]], tuple[tuple[float, int, int], ...]]]:
    """The eight orientations of a square. Trimming is looked for in upright pictures only, for speed."""
    for quarters in range(4):
        for mirrored in (False, True):

            def turn(t: NDArray[np.uint8], quarters: int = quarters, mirrored: bool = mirrored) -> NDArray[np.uint8]:
                return np.ascontiguousarray(np.rot90(t[:, ::-1] if mirrored else t, quarters))

            yield turn, _AS_IT_IS if quarters or mirrored else _TRIMMED


_ORIENTATIONS = tuple(_turns())


def _blurred(values: Floats, sigma_px: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), np.float32)


def _details(thumb: NDArray[np.uint8]) -> Floats:
    """What is left without noise and without shading, in grey levels: brightness and light do not count."""
    smooth = _blurred(thumb.astype(np.float32), 1.0)
    return smooth - _blurred(smooth, 6.0)


def _usual(thumbnails: NDArray[np.uint8]) -> _Usual:
    shape = (SIDE_PX, SIDE_PX)
    if len(thumbnails) < FEWEST_FOR_USUAL:
        nothing = np.empty((0, 0), np.float32)
        return _Usual(mean=nothing, spread=nothing, free=np.ones(shape, np.bool_))
    total, squares = np.zeros(shape), np.zeros(shape)
    for thumb in thumbnails:
        details = _details(thumb).astype(np.float64)
        total += details
        squares += details**2
    mean = total / len(thumbnails)
    deviation = np.sqrt(np.maximum(squares / len(thumbnails) - mean**2, 0))
    # Two grey levels more, so that places where nothing ever happens do not become the loudest.
    spread = deviation + 2
    fixed = cv2.dilate((np.abs(mean) > FIXED * spread).astype(np.uint8), np.ones((5, 5), np.uint8))
    return _Usual(mean=mean.astype(np.float32), spread=spread.astype(np.float32), free=fixed == 0)


def _coarse(thumbnails: NDArray[np.uint8], usual: _Usual, trimmed: tuple[float, int, int]) -> Floats:
    """Unit vectors of 16 x 16 details, (n, 256), each thumbnail zoomed and shifted first."""
    zoom, dx, dy = trimmed
    centre = (SIDE_PX - 1) / 2
    offset = centre - centre / zoom
    matrix = np.array([[1 / zoom, 0, offset + dx], [0, 1 / zoom, offset + dy]], np.float32)
    vectors = np.empty((len(thumbnails), _COARSE_PX**2), np.float32)
    for row, thumb in zip(vectors, thumbnails, strict=True):
        details = _details(thumb)
        if trimmed != _AS_IT_IS[0]:
            details = _warped(details, matrix, cv2.INTER_LINEAR)
        unusual = usual.of(details)
        small = cv2.resize(unusual, (_COARSE_PX, _COARSE_PX), interpolation=cv2.INTER_AREA).ravel()
        small -= small.mean()
        row[:] = small / (np.linalg.norm(small) + 1e-6)
    return vectors


def _screen(
    block: NDArray[np.uint8], coarse: Floats, usual: _Usual, variants: tuple[tuple[float, int, int], ...]
) -> list[tuple[int, int]]:
    """Places in the block and in the whole list of pairs that may be copies."""
    likeness = np.full((len(block), len(coarse)), -1, np.float32)
    for variant in variants:
        np.maximum(likeness, _coarse(block, usual, variant) @ coarse.T, out=likeness)
    pairs = []
    for i in np.flatnonzero((likeness > SCREEN).any(axis=1)):
        likeliest = np.argsort(-likeness[i], kind="stable")[: MOST_CANDIDATES + 1]
        pairs += [(int(i), int(j)) for j in likeliest if likeness[i, j] > SCREEN]
    return pairs


def _warped(values: Floats, matrix: Floats, interpolation: int) -> Floats:
    return np.asarray(
        cv2.warpAffine(
            values,
            matrix,
            (SIDE_PX, SIDE_PX),
            flags=interpolation | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        ),
        np.float32,
    )


def _confirm(first: NDArray[np.uint8], second: NDArray[np.uint8], usual: _Usual) -> float | None:
    """Correlation of the details of two aligned thumbnails; None where they are not one picture."""
    details = _details(first), _details(second)
    matrix = np.eye(2, 3, dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-5)
    try:
        _, found = cv2.findTransformECC(*details, matrix, cv2.MOTION_AFFINE, stop, None, 5)  # type: ignore[call-overload]
    except cv2.error:  # no alignment was found
        return None
    matrix = np.asarray(found, np.float32)
    far = SIDE_PX - 1
    corners = np.array([[0, far, 0, far], [0, 0, far, far], [1, 1, 1, 1]], np.float32)
    if np.abs(matrix @ corners - corners[:2]).max() > FURTHEST_PX:
        return None
    shared = _shared_part(matrix) & usual.free
    if shared.mean() < LEAST_SHARED:
        return None
    still = _blurred(first.astype(np.float32), 1.0)
    moved = _blurred(_warped(second.astype(np.float32), matrix, cv2.INTER_CUBIC), 1.0)
    likeness = _correlation(still - _blurred(still, 3.0), moved - _blurred(moved, 3.0), shared)
    if likeness < CONFIRMED:
        return None
    aligned = _warped(usual.of(details[1]), matrix, cv2.INTER_CUBIC)
    return likeness if _correlation(usual.of(details[0]), aligned, shared) >= CONFIRMED_UNUSUAL else None


def _shared_part(matrix: Floats) -> NDArray[np.bool_]:
    """Where both thumbnails have pixels, without a margin of 4."""
    inside = cv2.warpAffine(
        np.ones((SIDE_PX, SIDE_PX), np.uint8),
        matrix,
        (SIDE_PX, SIDE_PX),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    inside[0], inside[-1], inside[:, 0], inside[:, -1] = 0, 0, 0, 0
    return np.asarray(cv2.erode(inside, np.ones((9, 9), np.uint8)) > 0)


def _correlation(first: Floats, second: Floats, where: NDArray[np.bool_]) -> float:
    a, b = first[where] - first[where].mean(), second[where] - second[where].mean()
    return float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6))
