"""Pictures for the reader's own eyes: what was referred and cleared, rightly and wrongly, under what the network saw.

The choice is deterministic and shows the worst: every finding that was cleared, up to a cap, and of the other kinds
the surest and the closest calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.dataset import Box, Sample
from edge.errors import PictureError
from edge_convert.report.inline import Jpeg, jpeg, page_scale
from edge_runtime import saliency
from edge_runtime.evaluate import Prediction
from edge_runtime.pipeline import Screener

SHOWN = 6
MISSES_SHOWN = 24
# A rerun of the same int8 file on the same picture gives the same numbers; two rounding steps are allowed.
CHANGED = 2 / 256
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of the gallery. original, overlay: None where there is none; note: why, or a warning."""

    name: str
    label: str
    group: str
    split: str
    probability: float
    boxes: int
    original: Jpeg | None
    overlay: Jpeg | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Pictures that were judged alike. total: how many there are; shown: those that the page holds."""

    title: str
    meaning: str
    chosen_by: str
    total: int
    shown: tuple[Shown, ...]


def gallery(
    screener: Screener, predictions: Mapping[str, Sequence[Prediction]], samples: Sequence[Sample], threshold: float
) -> tuple[Kind, ...]:
    """The four kinds, the costliest error first.

    predictions: the int8 model's, by split. samples: at least those predicted. screener: of the same model, with the
    scale of its saliency.
    """
    positive = screener.manifest.decision.positive
    places = {sample.name: sample for sample in samples}
    pool = [(split, p) for split, found in predictions.items() for p in found]
    kinds = []
    for title, meaning, finding, referred in (
        ("Misses", "with the finding, cleared", True, False),
        ("False alarms", "without the finding, referred", False, True),
        ("Hits", "with the finding, referred", True, True),
        ("Correctly cleared", "without the finding, cleared", False, False),
    ):
        found = [
            (split, p)
            for split, p in pool
            if (p.label in positive) == finding and (p.probability >= threshold) == referred
        ]
        # The farther from the threshold, the surer the network was.
        found.sort(key=lambda pair: (pair[1].probability, pair[1].name), reverse=referred)
        chosen, chosen_by = _choose(found, worst_first=finding and not referred)
        kinds.append(
            Kind(
                title=title,
                meaning=meaning,
                chosen_by=chosen_by,
                total=len(found),
                shown=tuple(_show(screener, split, p, places[p.name]) for split, p in chosen),
            )
        )
    return tuple(kinds)


def _choose(
    found: Sequence[tuple[str, Prediction]], *, worst_first: bool
) -> tuple[Sequence[tuple[str, Prediction]], str]:
    """Some of the pictures, which come surest first, and how they were chosen, in words."""
    limit = MISSES_SHOWN if worst_first else SHOWN
    if len(found) <= limit:
        return found, "all of them, the surest first"
    if worst_first:
        return found[:limit], f"the {limit} of the lowest probability"
    half = limit // 2
    return [*found[:half], *found[-half:]], f"the {half} surest and the {half} nearest to the threshold"


def _show(screener: Screener, split: str, prediction: Prediction, sample: Sample) -> Shown:
    original, overlay, note = None, None, ""
    try:
        screening = screener.screen_file(sample.path, explain=True)
    except PictureError as error:
        note = f"The picture could not be read for this report: {error.message}."
    else:
        # The boxes lie under the heat, in the picture's own pixels, so both sides show them in the same place.
        marked = replace(screening, picture=with_boxes(screening.picture, sample.boxes))
        heated = screener.overlay(marked)
        scale = page_scale(marked.picture if heated is None else heated)
        # The overlay enlarges a small picture; the original beside it is shown as large.
        zoom = 1 if heated is None else saliency.shown_zoom(*marked.picture.shape[:2])
        original = jpeg(marked.picture, scale * zoom)
        overlay = None if heated is None else jpeg(heated, scale)
        now = screening.verdict.probability
        if overlay is None:
            note = "This model gives no map."
        if abs(now - prediction.probability) > CHANGED:
            note = f"The file has changed since it was measured: its probability is now {now:.3f}."
    return Shown(
        name=prediction.name,
        label=prediction.label,
        group=prediction.group,
        split=split,
        probability=prediction.probability,
        boxes=len(sample.boxes),
        original=original,
        overlay=overlay,
        note=note,
    )


def with_boxes(picture: NDArray[np.uint8], boxes: Sequence[Box]) -> NDArray[np.uint8]:
    """A copy with each box outlined, white beside black, so that it stands out on any stain.

    picture: (height, width, 3) uint8 RGB. boxes: x, y, width, height in its pixels.
    """
    marked = np.array(picture, np.uint8)
    line = max(1, round(int(min(picture.shape[:2])) / 220))
    for ring, colour in ((line, BLACK), (0, WHITE)):
        for x, y, width, height in boxes:
            corner = (round(x) - ring, round(y) - ring)
            opposite = (round(x + width) + ring, round(y + height) + ring)
            cv2.rectangle(marked, corner, opposite, colour, line)
    return marked
