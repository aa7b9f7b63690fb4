"""What a heat map is worth: does it point at what was marked, and does the score depend on what it shows?

Pointing game (Zhang et al. 2018), intersection over union with the marked boxes, and the deletion and insertion curves
of Petsiuk et al. 2018 beside those of a random order. Measured by the code that screens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.dataset import Box, Sample
from edge.errors import PictureError
from edge.frozen import dataclass
from edge_runtime import saliency
from edge_runtime.metrics import Interval, wilson
from edge_runtime.pipeline import Screener, Screening

STEPS = 12
"""Of a curve, from nothing to all of the picture."""
REGION_SHARE = 0.5
"""Of the map's peak: what reaches it is the region that the map shows."""
CELLS = 14
"""A side of the random order's cells: pixel by pixel it would be noise that no map resembles."""
BLUR_SHARE = 0.1
"""Of the input's side, the standard deviation of the blur that takes a place away: black squares are a finding too."""


@dataclass(frozen=True, kw_only=True)
class Faithfulness:
    """Of referred findings, n of them, n_boxes with marked boxes.

    pointing: share whose map peaks inside a box. iou: mean intersection over union of the map's region with the boxes.
    deletion, insertion: mean score of the finding while the places are taken away, or put back, in the map's order: low
    and high where the score depends on them. deletion_random, insertion_random: in a random order of cells.
    """

    n: int
    n_boxes: int
    pointing: Interval | None
    iou: float | None
    deletion: float
    insertion: float
    deletion_random: float
    insertion_random: float

    @property
    def doubt(self) -> str:
        """What to know of a map that shows no better than a random order what the score depends on; "" of others."""
        lost = self.deletion >= self.deletion_random, self.insertion <= self.insertion_random
        if not any(lost):
            return ""
        curves = " and ".join(curve for curve, is_lost in zip(("deletion", "insertion"), lost, strict=True) if is_lost)
        return f"by {curves} NO better than a random order: do not lean on what this map shows"


@dataclass(frozen=True, kw_only=True)
class OneMap:
    """The same of one picture. hit, iou: None without boxes."""

    hit: bool | None
    iou: float | None
    deletion: float
    insertion: float
    deletion_random: float
    insertion_random: float


class Removal:
    """One picture's score while places of it are blurred away. What depends on no map is run once for all maps."""

    def __init__(self, score: Callable[[NDArray[np.uint8]], float], tensor: NDArray[np.uint8]) -> None:
        """score: of the finding, as `Screener.score`. tensor: (side, side, channels) uint8, the network's input."""
        self._score, self._tensor = score, tensor
        blurred = cv2.GaussianBlur(tensor, (0, 0), BLUR_SHARE * tensor.shape[0])
        self._blurred = np.asarray(blurred, np.uint8).reshape(tensor.shape)
        self._clear, self._gone = score(tensor), score(self._blurred)

    def curves(self, order: NDArray[np.int64]) -> tuple[float, float]:
        """The mean score while pixels are blurred away in their order, and while they come back in it.

        order: (side * side,) indices of pixels, the most telling first.
        """
        shape = self._tensor.shape
        clear, blurred = (picture.reshape(-1, shape[-1]) for picture in (self._tensor, self._blurred))
        # Half of either end: the sum is the trapezoidal rule's.
        deletion = insertion = (self._clear + self._gone) / 2
        for step in range(1, STEPS):
            chosen = order[: round(step / STEPS * len(order))]
            taken, back = clear.copy(), blurred.copy()
            taken[chosen], back[chosen] = blurred[chosen], clear[chosen]
            deletion += self._score(taken.reshape(shape))
            insertion += self._score(back.reshape(shape))
        return deletion / STEPS, insertion / STEPS

    @cached_property
    def at_random(self) -> tuple[float, float]:
        """The curves of a random order of cells, the same for every picture."""
        side = self._tensor.shape[0]
        random = np.random.default_rng(0).random((CELLS, CELLS)).astype(np.float32)
        cells = cv2.resize(random, (side, side), interpolation=cv2.INTER_NEAREST)
        return self.curves(_falling(np.asarray(cells, np.float32)))


def judge_map(screening: Screening, removal: Removal, boxes: Sequence[Box]) -> OneMap:
    """Judge the map of one screened picture. boxes: x, y, width, height in pixels of the upright picture."""
    assert screening.heat is not None
    side = screening.tensor.shape[0]
    heat = saliency.enlarge(screening.heat, side, side)
    order = _falling(heat)
    deletion, insertion = removal.curves(order)
    deletion_random, insertion_random = removal.at_random
    marked = _marked(screening, boxes, side)
    return OneMap(
        hit=None if marked is None else bool(marked.flat[order[0]]),
        iou=None if marked is None else _iou(heat, marked),
        deletion=deletion,
        insertion=insertion,
        deletion_random=deletion_random,
        insertion_random=insertion_random,
    )


def summarise(found: Sequence[OneMap]) -> Faithfulness | None:
    """The measures over pictures; None where there are none."""
    if not found:
        return None
    boxed = [one for one in found if one.hit is not None]
    overlaps = [one.iou for one in boxed if one.iou is not None]
    return Faithfulness(
        n=len(found),
        n_boxes=len(boxed),
        pointing=wilson(sum(bool(one.hit) for one in boxed), len(boxed)) if boxed else None,
        iou=float(np.mean(overlaps)) if overlaps else None,
        deletion=float(np.mean([one.deletion for one in found])),
        insertion=float(np.mean([one.insertion for one in found])),
        deletion_random=float(np.mean([one.deletion_random for one in found])),
        insertion_random=float(np.mean([one.insertion_random for one in found])),
    )


def measure_faithfulness(screener: Screener, samples: Iterable[Sample]) -> Iterable[OneMap | None]:
    """Judge the maps of the findings among labelled pictures that are referred, one by one; None for the others."""
    for sample in samples:
        if sample.label not in screener.manifest.decision.positive:
            yield None
            continue
        try:
            screening = screener.screen_file(sample.path, explain=True)
        except PictureError:
            yield None
            continue
        verdict = screening.verdict
        referred = screening.heat is not None and verdict.probability >= verdict.threshold
        yield judge_map(screening, Removal(screener.score, screening.tensor), sample.boxes) if referred else None


def _falling(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The indices of a map's pixels, the largest first."""
    return np.argsort(-values, axis=None, kind="stable")


def _marked(screening: Screening, boxes: Sequence[Box], side: int) -> NDArray[np.bool_] | None:
    """The boxes' places in the input, (side, side); None where no box reaches into it."""
    marked = np.zeros((side, side), np.bool_)
    place = screening.placement
    for x, y, width, height in boxes:
        left, top = place.to_input(x, y)
        right, bottom = place.to_input(x + width, y + height)
        rows = slice(max(0, round(top)), max(0, round(bottom)))
        marked[rows, max(0, round(left)) : max(0, round(right))] = True
    return marked if marked.any() else None


def _iou(heat: NDArray[np.float32], marked: NDArray[np.bool_]) -> float:
    shown = heat >= REGION_SHARE * heat.max() if heat.max() > 0 else np.zeros_like(marked)
    return float((shown & marked).sum() / (shown | marked).sum())


def describe(found: Faithfulness | None) -> list[str]:
    """The measures as lines for people."""
    if found is None:
        return ["  no finding was referred, so there is no map to judge"]
    rows = [
        (f"peaks inside a marked box, {found.n_boxes} referred findings", str(found.pointing)),
        ("overlap with the boxes (IoU of the half-peak region)", "" if found.iou is None else f"{found.iou:.3f}"),
        ("deletion: score while the map's places go", f"{found.deletion:.3f} (random {found.deletion_random:.3f})"),
        ("insertion: score while they come back", f"{found.insertion:.3f} (random {found.insertion_random:.3f})"),
    ]
    lines = [
        f"  {name:<56} {value}" for name, value in rows if found.n_boxes or not name.startswith(("peaks", "overlap"))
    ]
    return [*lines, *([f"  {found.doubt}"] if found.doubt else [])]


def describe_built(evidence: object) -> list[str]:
    """What the build measured of a kind of map, as lines for people. evidence: as in the manifest."""
    rows = {
        "to_float": "rank agreement with the float32 file",
        "to_grad_cam": "rank agreement with Grad-CAM by Keras",
        "randomised": "the same under a random last layer, absolute",
    }
    if not isinstance(evidence, dict):
        return []
    known = [(text, evidence.get(key)) for key, text in rows.items()]
    return [f"  {text:<56} {value:.3f}" for text, value in known if isinstance(value, (int, float))]
