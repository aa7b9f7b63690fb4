"""From the network's outputs to probabilities, as the bundle's calibration says. Fitted on the workstation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.decision import Calibration

Floats = NDArray[np.float64]

HALF_STEP = 1 / 512
"""Half a rounding step of an int8 probability: what a score of 0 or 1 is taken for before a logarithm."""


def calibrate(calibration: Calibration, outputs: NDArray[np.floating], positive: list[int]) -> tuple[Floats, Floats]:
    """The calibrated probability of the positive classes together, (n,), and of each class, (n, classes).

    outputs: (n, classes), of the network. positive: indices of the positive classes. Within the positive classes, and
    within the others, the shares stay those of the network; together they sum to 1 (with the kind `none` they are the
    outputs as they are, which rounding may keep from it).
    """
    raw = np.asarray(outputs, np.float64)
    if calibration.kind == "none":
        return raw[:, positive].sum(axis=1).clip(0, 1), raw
    if calibration.kind == "temperature":
        classes = _softened(calibration, raw)
        return classes[:, positive].sum(axis=1).clip(0, 1), classes
    scores = positive_score(raw, positive)
    probability = _platt(calibration, scores) if calibration.kind == "platt" else _isotonic(calibration, scores)
    return probability, _shared_out(raw, positive, probability)


def positive_score(outputs: NDArray[np.floating], positive: list[int]) -> Floats:
    """The summed outputs of the positive classes, (n,), in [0, 1]."""
    return np.asarray(np.asarray(outputs, np.float64)[:, positive].sum(axis=1).clip(0, 1))


def logit(scores: NDArray[np.floating], away: float = HALF_STEP) -> Floats:
    """Log-odds of scores, which are kept `away` from 0 and 1: by default half a rounding step of int8."""
    clipped = np.asarray(scores, np.float64).clip(away, 1 - away)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def sigmoid(values: NDArray[np.floating]) -> Floats:
    """1 / (1 + exp(-values)) without overflow."""
    halved = np.asarray(values, np.float64) / 2
    return np.asarray(0.5 * (1 + np.tanh(halved)))


def _softened(calibration: Calibration, raw: Floats) -> Floats:
    """softmax(log p / T), Guo et al. 2017."""
    assert calibration.temperature is not None
    logs = np.log(raw.clip(HALF_STEP, 1)) / calibration.temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _platt(calibration: Calibration, scores: Floats) -> Floats:
    """sigmoid(a * logit(s) + b), Platt 1999."""
    assert calibration.slope is not None
    assert calibration.intercept is not None
    return sigmoid(calibration.slope * logit(scores) + calibration.intercept)


def _isotonic(calibration: Calibration, scores: Floats) -> Floats:
    """Piecewise linear between the knots, Zadrozny and Elkan 2002."""
    x, y = np.array(calibration.knots, np.float64).T
    return np.asarray(np.interp(scores, x, y))


def _shared_out(raw: Floats, positive: list[int], probability: Floats) -> Floats:
    shared = np.empty_like(raw)
    others = [index for index in range(raw.shape[1]) if index not in positive]
    for members, total in ((positive, probability), (others, 1 - probability)):
        if len(members) == 1:
            # Alone on its side, a class has all of it.
            shared[:, members[0]] = total
            continue
        part = raw[:, members]
        whole = part.sum(axis=1, keepdims=True)
        # int8 may give 0 to every class of one side: then they share alike.
        shares = np.where(whole > 0, part / np.where(whole > 0, whole, 1), 1 / len(members))
        shared[:, members] = shares * total[:, np.newaxis]
    return shared
