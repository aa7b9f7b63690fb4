"""Risk over coverage: how many errors are left when the most doubtful pictures are not answered (El-Yaniv 2010)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.acceptance import UNLIKE, Acceptance
from edge_runtime.calibration import logit
from edge_runtime.evaluate import Prediction

Floats = NDArray[np.float64]

MOST_POINTS = 400
LEAST_COVERAGE = 0.1
"""Of fewer pictures a share of errors says little."""

AWAY = 1e-9


@dataclass(frozen=True, kw_only=True)
class Risk:
    """What is left when pictures are declined in one order, from none to nine tenths. Each (points,), shares.

    coverage: of the pictures, those answered. errors: of these, those decided wrongly. missed: of all findings, those
    that are answered and cleared.
    """

    coverage: Floats
    errors: Floats
    missed: Floats


def risk_curves(
    predictions: Sequence[Prediction], acceptance: Acceptance, threshold: float, positive: Sequence[str]
) -> dict[str, Risk]:
    """A curve for each order: those nearest to the threshold first, and those least like what the model knows first."""
    scores = np.array([p.probability for p in predictions])
    truth = np.array([p.label in positive for p in predictions])
    away = np.abs(logit(scores, AWAY) - logit(np.array([threshold]), AWAY))
    curves = {"nearest": _risk(-away, scores >= threshold, truth)}
    unlike = unlikeness(predictions, acceptance)
    if unlike is not None:
        curves["unlike"] = _risk(unlike, scores >= threshold, truth)
    return curves


def unlikeness(predictions: Sequence[Prediction], acceptance: Acceptance) -> Floats | None:
    """The larger of the two distances, each as a share of its limit, (pictures,); None where there are no limits."""
    shares = [
        np.array([p.measures[name] for p in predictions]) / limit
        for name in UNLIKE
        if name in acceptance.limits and (limit := acceptance.limits[name].high)
    ]
    return np.asarray(np.max(shares, axis=0)) if shares else None


def _risk(doubt: Floats, refer: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Risk:
    """doubt: (pictures,), the highest is declined first; pictures of equal doubt together."""
    order = np.argsort(-doubt, kind="stable")
    n = len(order)
    wrong, cleared = (refer != truth)[order], (truth & ~refer)[order]
    # After declining the first k: k = 0 and every place where the doubt changes; some are always answered.
    steps = np.append(0, np.flatnonzero(np.diff(doubt[order])) + 1)
    steps = steps[steps <= (1 - LEAST_COVERAGE) * n]
    steps = steps[np.unique(np.linspace(0, len(steps) - 1, min(MOST_POINTS, len(steps))).round().astype(int))]
    left_wrong = wrong.sum() - np.append(0, np.cumsum(wrong))[steps]
    left_cleared = cleared.sum() - np.append(0, np.cumsum(cleared))[steps]
    return Risk(
        coverage=np.asarray(1 - steps / n),
        errors=np.asarray(left_wrong / (n - steps)),
        missed=np.asarray(left_cleared / max(1, int(truth.sum()))),
    )
