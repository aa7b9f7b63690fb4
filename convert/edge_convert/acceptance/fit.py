"""The limits of likeness and the band below the threshold, from the int8 file's validation pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edge.acceptance import UNLIKE, Acceptance, answer
from edge_convert.acceptance.learn import Learned
from edge_convert.acceptance.limits import distance_limits
from edge_convert.acceptance.refusals import Refusals, count_refusals
from edge_convert.recipe import AcceptanceRecipe
from edge_runtime.evaluate import Prediction
from edge_runtime.metrics import half_way_down


def fit_limits(
    asked: AcceptanceRecipe, learned: Learned, predictions: Sequence[Prediction], threshold: float
) -> tuple[Acceptance, Refusals]:
    """The limits of likeness and the band below the threshold, and what all limits refuse of these pictures.

    predictions: on the validation pictures, with their measures and calibrated probabilities.
    """
    draft = learned.acceptance
    limits = {**draft.limits, **distance_limits(draft, asked.novelty, predictions)}
    accepted = replace(
        draft,
        limits=limits,
        familiar=draft.familiar if limits.keys() & {"colour", *UNLIKE} else "",
        fitted_on=f"{draft.fitted_on} (quality) and {len(predictions)} validation pictures, int8",
    )
    answered = [p for p in predictions if not answer(accepted, p.measures, p.probability, 0.0).reasons]
    band = _clear_below(asked.uncertain, answered, len(predictions), threshold)
    acceptance = replace(accepted, clear_below=band)
    return acceptance, count_refusals(acceptance, asked, predictions, threshold)


def _clear_below(share: float, answered: Sequence[Prediction], n: int, threshold: float) -> float | None:
    """Where the band starts that holds at most this share of n pictures, those nearest below the threshold."""
    scores = np.array([p.probability for p in answered])
    below = np.sort(scores[scores < threshold])[::-1]
    place = int(share * n)
    # Pictures of one score are in the band together, or not at all.
    while 0 < place < len(below) and below[place - 1] - below[place] < 1e-9:
        place -= 1
    place = min(place, len(below))
    return half_way_down(scores, float(below[place - 1])) if place else None
