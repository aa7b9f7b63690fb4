"""Measures of a screening test, in numpy alone, so that a clinic can check its device on its own pictures.

Agreement with scikit-learn and SciPy is tested. Scores are probabilities of the finding, higher is more suspect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
Z95 = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured value with its 95 % interval; low and high are NaN-free, in the value's own unit."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def wilson(successes: int, n: int) -> Interval:
    """A proportion with Wilson's score interval at 95 % (Wilson 1927); for n = 0, value 0 and [0, 1]."""
    if n == 0:
        return Interval(value=0.0, low=0.0, high=1.0)
    share, z2 = successes / n, Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the bound is exact; rounding would leave it a hair off.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(value=share, low=low, high=high)


class Ranking:
    """Scores sorted once, so that a thousand bootstrap resamples cost a thousand passes and no sort."""

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        """scores, positive: (pictures,)."""
        _, self._bin = np.unique(scores, return_inverse=True)
        self._bins = int(self._bin.max()) + 1 if len(scores) else 0
        self._positive = positive

    def curves(self, weights: NDArray[np.float64] | None = None) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Weight of the positives and of the negatives at each distinct score, ascending."""
        w = np.ones(len(self._positive)) if weights is None else weights
        ones = np.bincount(self._bin, w * self._positive, self._bins).astype(np.float64)
        zeros = np.bincount(self._bin, w * ~self._positive, self._bins).astype(np.float64)
        return ones, zeros

    def auc(self, weights: NDArray[np.float64] | None = None) -> float:
        """Area under the ROC curve, ties counted half."""
        ones, zeros = self.curves(weights)
        below = np.cumsum(zeros) - zeros
        return float((ones * (below + 0.5 * zeros)).sum() / (ones.sum() * zeros.sum()))

    def average_precision(self, weights: NDArray[np.float64] | None = None) -> float:
        """Mean precision over recall steps, without interpolation (as scikit-learn defines it)."""
        ones, zeros = (side[::-1] for side in self.curves(weights))
        hits, alarms = np.cumsum(ones), np.cumsum(zeros)
        with np.errstate(invalid="ignore"):
            precision = np.where(ones > 0, hits / (hits + alarms), 0.0)
        return float((precision * ones).sum() / ones.sum())


def ranking_intervals(
    scores: NDArray[np.float64], positive: NDArray[np.bool_], groups: Sequence[str], *, seed: int = 0
) -> tuple[Interval, Interval]:
    """AUC and average precision, each with a 95 % percentile interval from a bootstrap over groups.

    Whole groups (patients, slides) are drawn, because pictures of one group are not independent. Where every
    resample gives 1 the interval is [1, 1]: read it with n.
    """
    ranking = Ranking(scores, positive)
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max()) + 1
    random = np.random.default_rng(seed)
    aucs, precisions = [], []
    for _ in range(RESAMPLES):
        weights = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)[group]
        if (weights @ positive) == 0 or (weights @ ~positive) == 0:
            continue
        aucs.append(ranking.auc(weights))
        precisions.append(ranking.average_precision(weights))
    return _percentiles(ranking.auc(), aucs), _percentiles(ranking.average_precision(), precisions)


def _percentiles(value: float, resampled: list[float]) -> Interval:
    if not resampled:
        return Interval(value=value, low=0.0, high=1.0)
    low, high = np.percentile(resampled, [2.5, 97.5])
    return Interval(value=value, low=float(min(low, value)), high=float(max(high, value)))


def fit_threshold(scores: NDArray[np.float64], positive: NDArray[np.bool_], target_sensitivity: float) -> float:
    """The highest threshold at which at least `target_sensitivity` of the positives are referred.

    It lies half-way to the next lower score seen, so that a difference of one rounding step between two devices
    does not turn a referral into a clearance.
    """
    ranked = np.sort(scores[positive])[::-1]
    needed = math.ceil(target_sensitivity * len(ranked) - 1e-9)
    last = float(ranked[max(needed, 1) - 1])
    lower = scores[scores < last]
    below = float(lower.max()) if len(lower) else 0.0
    # Where a finding has a probability of exactly 0, as int8 can give, only referring everything reaches the target.
    return (last + below) / 2


def expected_calibration_error(scores: NDArray[np.float64], positive: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean gap between predicted probability and observed share, over equally filled bins (Naeini et al. 2015)."""
    order = np.argsort(scores, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return float(sum(len(p) * abs(scores[p].mean() - positive[p].mean()) for p in parts) / len(scores))
