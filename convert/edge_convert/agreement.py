"""int8 against float32: the same pictures by both models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.decision import Decision
from edge_runtime import saliency
from edge_runtime.evaluate import Evaluation, Prediction, positive_scores

ENLARGED = 32


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """int8 against float32 on the same pictures.

    auc_drop: float32 less int8. accuracy_drop: the same of the share of pictures whose most probable label, before
    calibration, is right. flips: pictures whose decision differs at the int8 threshold. largest_difference: of
    a positive probability. saliency: median Spearman correlation of the enlarged maps, over all and over the positive
    pictures; None where the network gives no map.
    """

    n: int
    auc_drop: float
    accuracy_drop: float
    flips: int
    largest_difference: float
    saliency: float | None
    saliency_positive: float | None


def agree(
    int8: tuple[Prediction, ...],
    float32: tuple[Prediction, ...],
    positive: tuple[str, ...],
    decision: Decision,
    evaluations: dict[str, Evaluation],
) -> Agreement:
    """The two models on the same pictures, in the same order. evaluations: by split and model."""
    labels = evaluations["val/int8"].labels
    a, truth = positive_scores(int8, positive)
    b, _ = positive_scores(float32, positive)
    correlations = np.array(
        [
            map_agreement(x.heat, y.heat)
            for x, y in zip(int8, float32, strict=True)
            if x.heat is not None and y.heat is not None
        ]
    )
    return Agreement(
        n=len(int8),
        auc_drop=evaluations["val/float32"].auc.value - evaluations["val/int8"].auc.value,
        accuracy_drop=_accuracy(float32, labels) - _accuracy(int8, labels),
        flips=int(((a >= decision.threshold) != (b >= decision.threshold)).sum()),
        largest_difference=float(np.abs(a - b).max()),
        saliency=float(np.median(correlations)) if len(correlations) else None,
        saliency_positive=float(np.median(correlations[truth])) if len(correlations) else None,
    )


def _accuracy(predictions: tuple[Prediction, ...], labels: tuple[str, ...]) -> float:
    return float(np.mean([labels[int(np.argmax(p.outputs))] == p.label for p in predictions]))


def map_agreement(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Spearman's correlation of two maps, (rows, columns) each of its own, as they are shown, smooth.

    Ranks of 49 coarse cells say less than the picture a person sees. A flat map has no ranks, and agrees with nothing.
    """
    from scipy.stats import spearmanr

    large = [saliency.enlarge(np.asarray(heat, np.float32), ENLARGED, ENLARGED).ravel() for heat in (a, b)]
    if any(np.ptp(heat) == 0 for heat in large):
        return 0.0
    return float(spearmanr(*large).statistic)
