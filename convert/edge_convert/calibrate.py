"""Calibration: from what the int8 file says on validation pictures to parameters that the device applies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge.decision import Calibration, CalibrationKind
from edge.errors import GateError
from edge_runtime.calibration import HALF_STEP, logit, positive_score, sigmoid

HIGHEST_TEMPERATURE = 20.0
FLATTEST_SLOPE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The network's outputs on labelled pictures, through the runtime.

    outputs: (n, classes) probabilities. targets: (n,) index of the true class. groups: (n,). positive: indices of the
    positive classes.
    """

    outputs: NDArray[np.float64] = field(repr=False)
    targets: NDArray[np.int64] = field(repr=False)
    groups: tuple[str, ...] = field(repr=False)
    positive: tuple[int, ...]

    @property
    def truth(self) -> NDArray[np.bool_]:
        """Whether each picture has the finding, (n,)."""
        return np.isin(self.targets, self.positive)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The summed outputs of the positive classes, (n,)."""
        return positive_score(self.outputs, list(self.positive))

    def rows(self, chosen: NDArray[np.bool_]) -> Outputs:
        """Some of the pictures."""
        groups = tuple(group for group, keep in zip(self.groups, chosen, strict=True) if keep)
        return Outputs(
            outputs=self.outputs[chosen], targets=self.targets[chosen], groups=groups, positive=self.positive
        )


def fit_calibration(kind: CalibrationKind, data: Outputs) -> Calibration:
    """A calibration of the given kind. Raises GateError where the network ranks findings no higher than the rest."""
    return _FITS[kind](data)


def _none(_: Outputs) -> Calibration:
    return Calibration(kind="none")


def _temperature(data: Outputs) -> Calibration:
    """The temperature of least cross-entropy (Guo et al. 2017).

    The targets are smoothed as Platt's are, (n + 1) / (n + classes) for a class of n pictures: pictures that are all
    classified rightly would otherwise ask for a temperature of 0, which is certainty.
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(data.outputs.clip(HALF_STEP, 1))
    classes = logs.shape[1]
    counts = np.bincount(data.targets, minlength=classes)
    own = (counts + 1) / (counts + classes)
    wanted = np.repeat(((1 - own) / (classes - 1))[data.targets][:, np.newaxis], classes, axis=1)
    wanted[np.arange(len(logs)), data.targets] = own[data.targets]

    def cross_entropy(log_temperature: float) -> float:
        scaled = logs / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float((wanted * (np.log(np.exp(scaled).sum(axis=1, keepdims=True)) - scaled)).sum())

    limit = np.log(HIGHEST_TEMPERATURE)
    best = float(np.exp(minimize_scalar(cross_entropy, bounds=(-limit, limit), method="bounded").x))
    if best > 0.99 * HIGHEST_TEMPERATURE:
        raise _turned_round("temperature", f"the best temperature is beyond {HIGHEST_TEMPERATURE:g}")
    return Calibration(kind="temperature", temperature=best)


def _platt(data: Outputs) -> Calibration:
    """Slope and intercept of least cross-entropy against Platt's smoothed targets, by Newton's method.

    Platt 1999, with the step halving of Lin, Lin and Weng 2007.
    """
    x, truth = logit(data.scores), data.truth
    ones, zeros = int(truth.sum()), int((~truth).sum())
    wanted = np.where(truth, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    design = np.stack([x, np.ones_like(x)], axis=1)
    found = np.array([0.0, np.log((ones + 1) / (zeros + 1))])
    for _ in range(100):
        p = sigmoid(design @ found)
        gradient = design.T @ (p - wanted)
        if np.abs(gradient).max() < 1e-9 * len(x):
            break
        curvature = (design * (p * (1 - p))[:, np.newaxis]).T @ design + 1e-10 * np.eye(2)
        found = _descend(design, wanted, found, np.linalg.solve(curvature, gradient))
    slope, intercept = map(float, found)
    if slope < FLATTEST_SLOPE:
        raise _turned_round("platt", f"Platt's slope is {slope:.3g}")
    return Calibration(kind="platt", slope=slope, intercept=intercept)


def _descend(
    design: NDArray[np.float64], wanted: NDArray[np.float64], start: NDArray[np.float64], step: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The point a Newton step away, or nearer where that is lower."""

    def cross_entropy(at: NDArray[np.float64]) -> float:
        z = design @ at
        return float((np.logaddexp(0, z) - wanted * z).sum())

    before = cross_entropy(start)
    for _ in range(30):
        if cross_entropy(start - step) <= before:
            return start - step
        step = step / 2
    return start


def _isotonic(data: Outputs) -> Calibration:
    """The rising step function of least squares (Zadrozny and Elkan 2002), with lines between its steps.

    Kept half a picture away from 0 and 1: n pictures show no share nearer to certainty than that.
    """
    from sklearn.isotonic import IsotonicRegression

    edge = 1 / (2 * len(data.targets))
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, increasing=True).fit(data.scores, data.truth)
    knots = tuple(zip(map(float, fitted.X_thresholds_), map(float, fitted.y_thresholds_), strict=True))
    if len(knots) < 2 or knots[-1][1] - knots[0][1] < FLATTEST_SLOPE:
        raise _turned_round("isotonic", "no rising curve fits")
    return Calibration(kind="isotonic", knots=knots)


def _turned_round(kind: str, found: str) -> GateError:
    return GateError(
        f"the int8 model gives findings no higher scores than the rest on validation ({found}), so its probabilities "
        f"cannot be calibrated ({kind})",
        remedy="train longer or check the labels; decision.calibration = none builds it as it is",
    )


_FITS: dict[CalibrationKind, Callable[[Outputs], Calibration]] = {
    "none": _none,
    "temperature": _temperature,
    "platt": _platt,
    "isotonic": _isotonic,
}
