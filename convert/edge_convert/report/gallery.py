"""Pictures for the reader's own eyes: what the device answers, rightly and wrongly, and what it declines to answer.

The choice is deterministic and shows the worst: every finding that is cleared, up to a cap; of the others that are
answered the surest and the closest calls; of those that are declined some for each reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.acceptance import Answer, Answered, Reason, answer
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


KINDS: tuple[tuple[str, str, bool, tuple[Answer, ...]], ...] = (
    ("Misses", "with the finding, cleared", True, ("clear",)),
    ("False alarms", "without the finding, referred", False, ("refer",)),
    ("Findings declined", "with the finding, not answered", True, ("uncertain", "retake")),
    ("Others declined", "without the finding, not answered", False, ("uncertain", "retake")),
    ("Hits", "with the finding, referred", True, ("refer",)),
    ("Correctly cleared", "without the finding, cleared", False, ("clear",)),
)
"""Title, meaning, whether the finding is there, and what the device answers; the costliest error first."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of the gallery. answer: what the device says, with the reasons and the advice where it declines.

    original, overlay: None where there is none; note: why, or a warning.
    """

    name: str
    label: str
    group: str
    split: str
    answer: Answered
    probability: float
    boxes: int
    original: Jpeg | None
    overlay: Jpeg | None
    note: str


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Pictures that were answered alike. total: how many there are; shown: those that the page holds."""

    title: str
    meaning: str
    chosen_by: str
    total: int
    shown: tuple[Shown, ...]


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A picture of a split with the device's answer."""

    split: str
    prediction: Prediction
    answer: Answered


def gallery(
    screener: Screener, predictions: Mapping[str, Sequence[Prediction]], samples: Sequence[Sample]
) -> tuple[Kind, ...]:
    """The kinds in the order of KINDS, without those of declined pictures where the bundle declines nothing.

    predictions: the int8 model's, by split, with the measures that the bundle's limits are held against. samples: at
    least those predicted. screener: of the same model, with its decision, its limits and the scale of its saliency.
    """
    manifest = screener.manifest
    places = {sample.name: sample for sample in samples}
    threshold = manifest.decision.threshold
    pool = [
        _Case(split=split, prediction=p, answer=answer(manifest.acceptance, p.measures, p.probability, threshold))
        for split, found in predictions.items()
        for p in found
    ]
    kinds = []
    for title, meaning, finding, answers in KINDS:
        if "retake" in answers and manifest.acceptance is None:
            continue
        found = [
            case
            for case in pool
            if (case.prediction.label in manifest.decision.positive) == finding and case.answer.decision in answers
        ]
        chosen, chosen_by = _choose(found, finding=finding, answers=answers)
        kinds.append(
            Kind(
                title=title,
                meaning=meaning,
                chosen_by=chosen_by,
                total=len(found),
                shown=tuple(_show(screener, case, places[case.prediction.name]) for case in chosen),
            )
        )
    return tuple(kinds)


def _choose(found: Sequence[_Case], *, finding: bool, answers: tuple[Answer, ...]) -> tuple[Sequence[_Case], str]:
    """Some of the pictures in the order in which they are shown, and how they were chosen, in words."""
    referred, cleared = "refer" in answers, "clear" in answers
    # The farther from the threshold, the surer the network was. What is declined: the likeliest error first.
    highest_first = referred or not (cleared or finding)
    order = sorted(found, key=lambda case: (case.prediction.probability, case.prediction.name), reverse=highest_first)
    if not (referred or cleared):
        end = "highest" if highest_first else "lowest"
        if len(order) <= SHOWN:
            return order, f"all of them, the {end} probability first"
        return _each_reason_in_turn(order)[:SHOWN], f"each reason in turn, the {end} probability first"
    missed = finding and cleared
    limit = MISSES_SHOWN if missed else SHOWN
    if len(order) <= limit:
        return order, "all of them, the surest first"
    if missed:
        return order[:limit], f"the {limit} of the lowest probability"
    half = limit // 2
    return [*order[:half], *order[-half:]], f"the {half} surest and the {half} nearest to the threshold"


def _each_reason_in_turn(declined: Sequence[_Case]) -> list[_Case]:
    """The first picture of each first reason, then the second of each: else one frequent reason would hide the rest."""
    seen: Counter[Reason] = Counter()
    turns = []
    for case in declined:
        reason = case.answer.reasons[0]
        turns.append(seen[reason])
        seen[reason] += 1
    return [case for _, case in sorted(zip(turns, declined, strict=True), key=lambda pair: pair[0])]


def _show(screener: Screener, case: _Case, sample: Sample) -> Shown:
    prediction = case.prediction
    original, overlay, note = None, None, ""
    try:
        screening = screener.screen_file(sample.path, explain=True)
        whole = screening.whole()
    except PictureError as error:
        note = f"The picture could not be read for this report: {error.message}."
    else:
        # The boxes lie under the heat, in the picture's own pixels, so both sides show them in the same place.
        marked = with_boxes(whole, sample.boxes)
        heated = screener.overlay(screening, on=marked)
        scale = page_scale(marked if heated is None else heated)
        # The overlay enlarges a small picture; the original beside it is shown as large.
        zoom = 1 if heated is None else saliency.shown_zoom(*marked.shape[:2])
        original = jpeg(marked, scale * zoom)
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
        split=case.split,
        answer=case.answer,
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
