"""Pictures that share a part: crops, tilted copies, neighbouring microscope fields that overlap.

`copies` compares whole pictures; this finds what it cannot. Three stages. A screen: the nearest neighbours of each
picture by the cosine of embeddings, whole against whole and whole against centre. An alignment: keypoints (SIFT, Lowe
2004) matched, and one shift, turn and zoom for them by RANSAC. A confirmation: the details must agree almost everywhere
in the shared part. Embeddings alone confirm nothing: two patients' radiographs are as close as a picture and its crop.
The thresholds were measured, see docs/decisions/005-duplicates-by-embedding.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.dataset import Sample
from edge.preprocess import decode
from edge_convert.data.copies import Copy
from edge_convert.progress import Progress, Steps

Floats = NDArray[np.float32]

NEIGHBOURS = 10
"""Candidates of each picture: the recorded share of altered copies that have their picture among them is 005's."""

SIDE_PX = 256
"""Longer side of the grey pictures that are aligned."""

KEYPOINTS = 400
RATIO = 0.8
"""Largest distance of a keypoint's match over that of the second best (Lowe 2004)."""

LEAST_MATCHES = 6
"""Keypoints that one shift, turn and zoom must explain."""

REPROJECTION_PX = 3.0
ZOOMS = (0.5, 2.0)

WINDOW_PX = 33
"""Side of the windows in which details are correlated."""

FAINTEST = 1.0
"""Standard deviation of the details in a window, in grey levels, below which there is nothing to compare in it."""

LEAST_SHARED = 0.1
"""Part of the first picture that the two must share, empty places not counted."""

CONFIRMED = 0.75
"""Median over the shared part of the windows' correlation. Tiles of fields apart stay below 0.65."""

LOOK_ALIKES = 20
"""Unconfirmed pairs in different splits that are listed for a person to look at, the closest first."""

_BLOCK = 512
_KEPT = 4096


@dataclass(frozen=True, kw_only=True)
class Found:
    """Places in the list. shared: pairs with a part in common, likeness in it to 1. look_alikes: the closest others,
    likeness their cosine."""

    shared: tuple[Copy, ...]
    look_alikes: tuple[Copy, ...]


def method() -> dict[str, Any]:
    """What is looked for and how, for a record."""
    return {
        "method": "nearest by cosine of embeddings, aligned by SIFT keypoints, local correlation of details",
        "neighbours": NEIGHBOURS,
        "side_px": SIDE_PX,
        "keypoints": KEYPOINTS,
        "least_matches": LEAST_MATCHES,
        "confirmed": CONFIRMED,
    }


def find_overlaps(samples: Sequence[Sample], views: Floats, known: frozenset[tuple[int, int]]) -> Steps[Found]:
    """Pairs of pictures that share a part; yields how many pairs of the candidates were looked at.

    views: (n, 2, channels) float32, each picture whole and its centre, length 1. known: pairs, the lower place first,
    that are copies already: left out.
    """
    from threadpoolctl import ThreadpoolController

    threads = ThreadpoolController()
    pairs = [pair for pair in candidates(views) if pair[:2] not in known]
    keypoints = _Cache(samples)
    shared: list[Copy] = []
    others: list[Copy] = []
    for done, (first, second, cosine) in enumerate(pairs):
        yield Progress(done=done, total=len(pairs))
        # On matrices as small as these, threads wait for one another: one needs a seventh of the processor time.
        with threads.limit(limits=1):
            likeness = shared_likeness(keypoints[first], keypoints[second])
        if likeness >= CONFIRMED:
            shared.append(Copy(first=first, second=second, likeness=round(likeness, 4)))
        else:
            others.append(Copy(first=first, second=second, likeness=round(cosine, 4)))
    yield Progress(done=len(pairs), total=len(pairs))
    apart = [c for c in others if samples[c.first].split != samples[c.second].split]
    apart.sort(key=lambda c: (-c.likeness, c.first, c.second))
    return Found(shared=tuple(shared), look_alikes=tuple(apart[:LOOK_ALIKES]))


def candidates(views: Floats) -> list[tuple[int, int, float]]:
    """Each picture's nearest ones: places, the lower first, and the cosine, in order.

    A pair's cosine is the largest of whole with whole, whole with centre, and centre with centre.
    """
    found: dict[tuple[int, int], float] = {}
    count = len(views)
    for start in range(0, count, _BLOCK):
        block = views[start : start + _BLOCK]
        cosines = np.full((len(block), count), -1, np.float32)
        for a in range(views.shape[1]):
            for b in range(views.shape[1]):
                np.maximum(cosines, block[:, a] @ views[:, b].T, out=cosines)
        cosines[np.arange(len(block)), start + np.arange(len(block))] = -1
        for row in range(len(block)):
            i = start + row
            for j in np.argsort(-cosines[row], kind="stable")[: min(NEIGHBOURS, count - 1)]:
                found[min(i, int(j)), max(i, int(j))] = float(cosines[row, j])
    return [(*pair, found[pair]) for pair in sorted(found)]


@dataclass(frozen=True, kw_only=True)
class Keypoints:
    """A grey picture, (rows, columns) uint8, its keypoints' places (k, 2) x, y and unit descriptors (k, 128)."""

    grey: NDArray[np.uint8]
    places: Floats
    descriptors: Floats


def find_keypoints(picture: NDArray[np.uint8]) -> Keypoints:
    """The strongest keypoints of a picture. picture: (rows, columns, 3) uint8 RGB."""
    rows, columns = picture.shape[:2]
    zoom = SIDE_PX / max(rows, columns)
    size = (max(1, round(columns * zoom)), max(1, round(rows * zoom)))
    full = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    grey: NDArray[np.uint8] = np.asarray(cv2.resize(full, size, interpolation=cv2.INTER_AREA), np.uint8)
    # Smears have few strong corners and radiographs faint ones: the limits are lower than SIFT's own.
    detector = cv2.SIFT_create(nfeatures=KEYPOINTS, contrastThreshold=0.004, edgeThreshold=20)  # type: ignore[attr-defined]
    stretched = cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    found, descriptors = detector.detectAndCompute(stretched, None)
    if descriptors is None:
        return Keypoints(grey=grey, places=np.zeros((0, 2), np.float32), descriptors=np.zeros((0, 128), np.float32))
    # Square roots of the shares: Arandjelovic and Zisserman 2012.
    roots = np.sqrt(descriptors / (descriptors.sum(axis=1, keepdims=True) + 1e-7))
    places = np.array([point.pt for point in found], np.float32)
    return Keypoints(grey=grey, places=places[:KEYPOINTS], descriptors=roots[:KEYPOINTS].astype(np.float32))


def shared_likeness(first: Keypoints, second: Keypoints) -> float:
    """How alike the part is that the two pictures share, to 1; 0 where they share none that is large enough."""
    matrix = _alignment(first, second)
    if matrix is None:
        return 0.0
    rows, columns = first.grey.shape
    moved = cv2.warpAffine(second.grey.astype(np.float32), matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpAffine(np.ones(second.grey.shape, np.uint8), matrix, (columns, rows), flags=cv2.INTER_NEAREST)
    inside[0], inside[-1], inside[:, 0], inside[:, -1] = 0, 0, 0, 0
    inner = cv2.erode(inside, np.ones((WINDOW_PX // 2 + 1,) * 2, np.uint8)) > 0
    correlation, spread = _local_correlation(_details(first.grey), _details(moved))
    compared = inner & (spread >= FAINTEST)
    if compared.mean() < LEAST_SHARED:
        return 0.0
    # The median: a label, a black corner or a fold in one of the two must not decide.
    return float(np.median(correlation[compared]))


def _alignment(first: Keypoints, second: Keypoints) -> NDArray[np.float64] | None:
    """What moves the second picture onto the first, (2, 3); None where too few keypoints agree on it."""
    if min(len(first.places), len(second.places)) < LEAST_MATCHES:
        return None
    alike = first.descriptors @ second.descriptors.T
    everyone = np.arange(len(alike))
    best = alike.argmax(axis=1)
    nearest = 1 - alike[everyone, best]
    alike[everyone, best] = -1
    # Of unit vectors, 1 - cosine is half the squared distance.
    clear = nearest < RATIO**2 * (1 - alike.max(axis=1))
    if clear.sum() < LEAST_MATCHES:
        return None
    here, there = first.places[clear], second.places[best[clear]]
    cv2.setRNGSeed(0)
    matrix, agreeing = cv2.estimateAffinePartial2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=REPROJECTION_PX, maxIters=500
    )
    if matrix is None or agreeing.sum() < LEAST_MATCHES:
        return None
    if not ZOOMS[0] < np.hypot(matrix[0, 0], matrix[1, 0]) < ZOOMS[1]:
        return None
    return np.asarray(matrix, np.float64)


def _details(grey: NDArray[Any]) -> Floats:
    smooth = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), 1.5)
    return np.asarray(smooth - cv2.GaussianBlur(smooth, (0, 0), 8), np.float32)


def _local_correlation(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """In the window around each place: the correlation, and the larger of the two standard deviations."""

    def mean(values: Floats) -> Floats:
        return np.asarray(cv2.boxFilter(values, -1, (WINDOW_PX, WINDOW_PX)), np.float32)

    a, b = mean(first), mean(second)
    shared = mean(first * second) - a * b
    variances = np.maximum(mean(first**2) - a**2, 0), np.maximum(mean(second**2) - b**2, 0)
    correlation = shared / np.sqrt(variances[0] * variances[1] + 1e-2)
    return np.asarray(correlation, np.float32), np.asarray(np.sqrt(np.maximum(*variances)), np.float32)


class _Cache:
    """Keypoints by place in the list, the last few thousand kept."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._samples = samples
        self._kept: OrderedDict[int, Keypoints] = OrderedDict()

    def __getitem__(self, place: int) -> Keypoints:
        if place not in self._kept:
            picture = decode(self._samples[place].path.read_bytes(), wide_range="stretch")
            self._kept[place] = find_keypoints(picture)
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(place)
        return self._kept[place]
