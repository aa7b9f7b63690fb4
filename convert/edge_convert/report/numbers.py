"""The numbers behind the plots, from predictions. A score is the calibrated probability of the positive labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_runtime.evaluate import Prediction, output_scores, positive_scores
from edge_runtime.metrics import (
    FEWEST_GROUPS,
    Interval,
    Ranking,
    equal_bins,
    group_resamples,
    groups_holding,
    tails,
    wilson,
)

Floats = NDArray[np.float64]

GRID = np.linspace(0, 1, 201)
MAX_BINS = 10
PICTURES_A_BIN = 10


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One model's scores on one split. scores, truth: (pictures,). groups: what each picture belongs to."""

    scores: Floats
    truth: NDArray[np.bool_]
    groups: tuple[str, ...]

    @property
    def n(self) -> int:
        """How many pictures."""
        return len(self.scores)

    @property
    def n_positive(self) -> int:
        """How many with the finding."""
        return int(self.truth.sum())


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A curve through its measured points. x, y: (points,) in 0..1. thresholds: (points,), infinite at the start."""

    x: Floats
    y: Floats
    thresholds: Floats


@dataclass(frozen=True, kw_only=True)
class Band:
    """A pointwise 95 % interval by bootstrap over groups, see `metrics.tails`. x, low, high: (points,)."""

    x: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The threshold and what it gives, each share with its Wilson interval."""

    threshold: float
    sensitivity: Interval
    specificity: Interval
    precision: Interval


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Pictures of like score: their number, mean score, and share that has the finding, with Wilson's interval."""

    n: int
    mean_score: float
    observed: Interval


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Pictures by score. edges: (bins + 1,). positive, negative: (bins,) counts."""

    edges: Floats
    positive: NDArray[np.int64]
    negative: NDArray[np.int64]


def scored(predictions: tuple[Prediction, ...], positive: tuple[str, ...]) -> Scored:
    """Scores, truth and groups of predictions."""
    scores, truth = positive_scores(predictions, positive)
    return Scored(scores=scores, truth=truth, groups=tuple(p.group for p in predictions))


def scored_outputs(predictions: tuple[Prediction, ...], positive: tuple[str, ...], labels: tuple[str, ...]) -> Scored:
    """The same by the network's own outputs, before calibration. labels: in the order of the outputs."""
    return replace(scored(predictions, positive), scores=output_scores(predictions, labels, positive))


def roc(data: Scored) -> Curve:
    """x: share of the negatives referred, y: share of the positives referred, from no referral to all."""
    ones, zeros = Ranking(data.scores, data.truth).curves()
    thresholds = np.unique(data.scores)[::-1]
    return Curve(
        x=_from_zero(_cumulative_share(zeros)),
        y=_from_zero(_cumulative_share(ones)),
        thresholds=np.concatenate([[np.inf], thresholds]),
    )


def precision_recall(data: Scored) -> Curve:
    """x: recall, y: precision, at each distinct score, falling."""
    ones, zeros = Ranking(data.scores, data.truth).curves()
    recall, precision = _recall_precision(ones, zeros)
    return Curve(x=recall, y=precision, thresholds=np.unique(data.scores)[::-1])


def roc_band(data: Scored) -> Band:
    """Sensitivity to be expected at each false-alarm share."""

    def at_grid(ones: Floats, zeros: Floats) -> Floats:
        return np.interp(GRID, _from_zero(_cumulative_share(zeros)), _from_zero(_cumulative_share(ones)))

    return _band(data, at_grid)


def precision_recall_band(data: Scored) -> Band:
    """Precision to be expected at each recall."""

    def at_grid(ones: Floats, zeros: Floats) -> Floats:
        recall, precision = _recall_precision(ones, zeros)
        # The first threshold that reaches the recall; rounding may leave the last recall a hair below 1.
        first = np.searchsorted(recall, GRID - 1e-9)
        return precision[np.minimum(first, len(precision) - 1)]

    return _band(data, at_grid)


def operating_point(data: Scored, threshold: float) -> OperatingPoint:
    """What the threshold gives on these pictures."""
    refer = data.scores >= threshold
    hits, alarms = int((refer & data.truth).sum()), int((refer & ~data.truth).sum())
    negatives = data.n - data.n_positive
    return OperatingPoint(
        threshold=threshold,
        sensitivity=wilson(hits, data.n_positive),
        specificity=wilson(negatives - alarms, negatives),
        precision=wilson(hits, hits + alarms),
    )


def calibration(data: Scored) -> list[Bin]:
    """Bins of about equal count, by ascending score: ten, or fewer where pictures are few or many scores are equal."""
    count = max(1, min(MAX_BINS, data.n // PICTURES_A_BIN))
    return [
        Bin(
            n=len(part),
            mean_score=float(data.scores[part].mean()),
            observed=wilson(int(data.truth[part].sum()), len(part)),
        )
        for part in equal_bins(data.scores, count)
    ]


def histogram(data: Scored, bins: int = 25) -> Histogram:
    """Counts in bins of equal width from 0 to 1."""
    edges = np.linspace(0, 1, bins + 1)
    scores = data.scores.clip(0, 1)
    return Histogram(
        edges=edges,
        positive=np.histogram(scores[data.truth], edges)[0].astype(np.int64),
        negative=np.histogram(scores[~data.truth], edges)[0].astype(np.int64),
    )


def _cumulative_share(counts: Floats) -> Floats:
    """Of counts by ascending score: the share at or above each score, scores falling."""
    return np.asarray(np.cumsum(counts[::-1]) / counts.sum(), np.float64)


def _from_zero(shares: Floats) -> Floats:
    return np.concatenate([[0.0], shares])


def _recall_precision(ones: Floats, zeros: Floats) -> tuple[Floats, Floats]:
    hits, referred = np.cumsum(ones[::-1]), np.cumsum((ones + zeros)[::-1])
    # Where a resample holds none of the highest scores nothing is referred yet: no alarm is false.
    precision = np.divide(hits, referred, out=np.ones_like(hits), where=referred > 0)
    return hits / hits[-1], precision


def _band(data: Scored, at_grid: Callable[[Floats, Floats], Floats]) -> Band:
    """Whole groups are drawn, as for the intervals of the areas; of too few groups the band is everything."""
    ranking = Ranking(data.scores, data.truth)
    drawn = [at_grid(*ranking.curves(weights)) for weights in group_resamples(data.groups, data.truth)]
    if not drawn or min(groups_holding(data.groups, data.truth)) < FEWEST_GROUPS:
        return Band(x=GRID, low=np.zeros_like(GRID), high=np.ones_like(GRID))
    low, high = np.percentile(np.array(drawn), tails(data.groups, data.truth), axis=0)
    return Band(x=GRID, low=low, high=high)
