"""Measures of a screening test, in numpy alone, so that a clinic can check its device on its own pictures.

Agreement with scikit-learn and SciPy is tested. Scores are probabilities of the finding, higher is more suspect.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from edge.frozen import dataclass

RESAMPLES = 1000
Z95 = 1.959963984540054

SAME_SCORE = 1e-9
"""Scores that are nearer to one another than this are taken as equal when a threshold is put between them."""

FEWEST_GROUPS = 5
"""Groups with positives, and with negatives, below which a bootstrap over groups is not believed."""


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
    return _wilson(successes / n, n)


def _wilson(share: float, n: float) -> Interval:
    z2 = Z95 * Z95
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # At the ends the bound is exact; rounding would leave it a hair off.
    low = 0.0 if share == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1 else min(1.0, centre + half)
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
    """AUC and average precision, each with a 95 % interval: the wider bounds of a bootstrap and of a formula.

    The bootstrap draws whole groups (patients, slides), because pictures of one group are not independent. It says too
    little where few groups are drawn from (its percentiles are therefore moved outwards, see `tails`), and nothing
    where every resample ranks alike, as a model without a mistake does. The formula knows the number of pictures only:
    for the AUC the variance of Hanley and McNeil 1982, inverted as a score interval (Newcombe 2006, method 5); for
    average precision Wilson's interval over the positives (Boyd et al. 2013, their binomial interval). It never
    narrows to a point. Where fewer than FEWEST_GROUPS groups hold positives, or negatives, or where every resample
    gives the same, nothing tells how much the pictures of one group go together: it then counts each group as one.
    """
    ranking = Ranking(scores, positive)
    drawn = np.array(
        [
            (ranking.auc(weights), ranking.average_precision(weights))
            for weights in group_resamples(groups, positive, seed=seed)
        ]
    ).reshape(-1, 2)
    m, n = groups_holding(groups, positive)
    alike = len(drawn) == 0 or bool((np.ptp(drawn, axis=0) < 1e-12).any())
    if not alike and min(m, n) >= FEWEST_GROUPS:
        m, n = int(positive.sum()), int((~positive).sum())
    auc, precision = ranking.auc(), ranking.average_precision()
    percents = tails(groups, positive)
    return (
        _widest(_newcombe(auc, m, n), drawn[:, 0], percents),
        _widest(_wilson(precision, m), drawn[:, 1], percents),
    )


def group_resamples(
    groups: Sequence[str], positive: NDArray[np.bool_], *, seed: int = 0
) -> Iterator[NDArray[np.float64]]:
    """RESAMPLES bootstrap draws of whole groups: how often each picture is drawn, (pictures,).

    Draws without a positive or without a negative picture, on which nothing can be measured, are left out.
    """
    _, group = np.unique(np.asarray(groups), return_inverse=True)
    count = int(group.max()) + 1
    random = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        weights = np.bincount(random.integers(0, count, count), minlength=count).astype(np.float64)[group]
        if weights @ positive and weights @ ~positive:
            yield weights


def tails(groups: Sequence[str], positive: NDArray[np.bool_]) -> tuple[float, float]:
    """The percentiles of a group bootstrap that make an interval of about 95 %.

    2.5 and 97.5 for many groups; farther out for few, because resampling n groups underestimates their spread by
    sqrt((n - 1) / n) and knows nothing of Student's t (Hesterberg 2015, expanded percentile interval). n: the groups
    that hold positives or those that hold negatives, whichever are fewer; below FEWEST_GROUPS the extremes, 0 and 100.
    """
    n = min(groups_holding(groups, positive))
    if n < FEWEST_GROUPS:
        return 0.0, 100.0
    outside = 50 * math.erfc(math.sqrt(n / (n - 1)) * student(n - 1, Z95) / math.sqrt(2))
    return outside, 100 - outside


def groups_holding(groups: Sequence[str], positive: NDArray[np.bool_]) -> tuple[int, int]:
    """How many groups hold a positive picture, and how many a negative one."""
    names = np.asarray(groups)
    return len(np.unique(names[positive])), len(np.unique(names[~positive]))


def student(freedom: int, z: float) -> float:
    """Student's t where the normal has `z`: from 4 degrees of freedom on, up to 97.5 %, within 0.01.

    Abramowitz and Stegun 1964, 26.7.5.
    """
    v = freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def _newcombe(auc: float, m: int, n: int) -> Interval:
    """The areas that m positives and n negatives do not contradict: |area - auc| <= z * (its standard error)."""

    def contradicted(area: float) -> bool:
        # Hanley and McNeil's variance with both sides' numbers put at their mean, as Newcombe has it.
        spread = 1 + ((m + n) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        return abs(area - auc) > Z95 * math.sqrt(area * (1 - area) * spread / (m * n))

    def bound(outer: float) -> float:
        inner = auc
        if not contradicted(outer):
            return outer
        for _ in range(40):
            middle = (inner + outer) / 2
            inner, outer = (inner, middle) if contradicted(middle) else (middle, outer)
        return inner

    return Interval(value=auc, low=bound(0.0), high=bound(1.0))


def _widest(formula: Interval, drawn: NDArray[np.float64], percents: tuple[float, float]) -> Interval:
    low, high = np.percentile(drawn, percents) if len(drawn) else (formula.value, formula.value)
    return Interval(value=formula.value, low=float(min(low, formula.low)), high=float(max(high, formula.high)))


def fit_threshold(scores: NDArray[np.float64], positive: NDArray[np.bool_], target_sensitivity: float) -> float:
    """A threshold that refers at least `target_sensitivity` of the positives, and as few others as that allows.

    It lies half-way to the next lower score seen, see `half_way_down`.
    """
    ranked = np.sort(scores[positive])[::-1]
    needed = math.ceil(target_sensitivity * len(ranked) - 1e-9)
    return half_way_down(scores, float(ranked[max(needed, 1) - 1]))


def half_way_down(scores: NDArray[np.float64], last: float) -> float:
    """A threshold between the score `last`, which is still referred, and the next lower one that was seen.

    Half-way, so that a difference of one rounding step between two devices does not turn a referral into a clearance;
    in log-odds, where scores are evenly spread after calibration. Scores that differ by a hair are one: arithmetic in
    another order must not part them.
    """
    lower = scores[scores < last - SAME_SCORE]
    below = float(lower.max()) if len(lower) else 0.0
    if below <= 0 or last >= 1:
        # No log-odds here. Where a finding has a score of exactly 0 only referring everything refers it.
        return (last + below) / 2
    odds = math.sqrt(last / (1 - last) * below / (1 - below))
    return odds / (1 + odds)


def equal_bins(scores: NDArray[np.float64], bins: int) -> list[NDArray[np.int64]]:
    """Pictures in bins of about equal count, by ascending score: indices, at most `bins` of them, none empty.

    Equal scores, which int8 gives often, share a bin, so that the order of the pictures does not matter: each distinct
    score goes where the middle of its ranks belongs.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - counts / 2
    bin_of = np.floor(middle * bins / max(1, len(scores))).astype(np.int64)[place]
    return [np.flatnonzero(bin_of == index) for index in np.unique(bin_of)]


def expected_calibration_error(scores: NDArray[np.float64], positive: NDArray[np.bool_], bins: int = 10) -> float:
    """Mean gap between predicted probability and observed share, over equally filled bins (Naeini et al. 2015)."""
    parts = equal_bins(scores, bins)
    return float(sum(len(p) * abs(scores[p].mean() - positive[p].mean()) for p in parts) / len(scores))
