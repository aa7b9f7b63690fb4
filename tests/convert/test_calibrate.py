"""Calibrations are fitted to what independent optimisers find, and never turn a ranking round."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from edge.decision import CalibrationKind
from edge.errors import GateError
from edge_convert.calibrate import Outputs, fit_calibration
from edge_runtime.calibration import calibrate, logit
from edge_runtime.metrics import expected_calibration_error

KINDS: tuple[CalibrationKind, ...] = ("none", "temperature", "platt", "isotonic")


def as_int8(probabilities: np.ndarray) -> np.ndarray:
    return np.floor(probabilities * 256).clip(0, 255) / 256


def two_classes(n: int = 400, *, shift: float = 1.5, seed: int = 1) -> Outputs:
    """Outputs whose log-odds are moved and stretched against the true ones, as class weights do; rounded as int8."""
    random = np.random.default_rng(seed)
    odds = random.normal(-1.0, 2.5, n)
    truth = random.random(n) < expit(odds)
    scores = expit(0.7 * odds + shift)
    return Outputs(
        outputs=as_int8(np.stack([1 - scores, scores], axis=1)),
        targets=truth.astype(np.int64),
        groups=tuple(map(str, range(n))),
        positive=(1,),
    )


def three_classes(n: int = 300, seed: int = 2) -> Outputs:
    """Clean, pneumonia, covid19: the last two are findings. Overconfident by a factor of 2."""
    random = np.random.default_rng(seed)
    odds = random.normal(0, 1.5, (n, 3))
    targets = np.array([random.choice(3, p=row) for row in np.exp(log_softmax(odds, axis=1))])
    outputs = as_int8(np.exp(log_softmax(2 * odds, axis=1)))
    return Outputs(outputs=outputs, targets=targets, groups=tuple(map(str, range(n))), positive=(1, 2))


@pytest.mark.parametrize("data", [two_classes(), three_classes()], ids=["two classes", "two findings of three"])
def test_platt_is_the_least_cross_entropy_against_smoothed_targets(data: Outputs) -> None:
    ones = int(data.truth.sum())
    zeros = len(data.truth) - ones
    wanted = np.where(data.truth, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    x = logit(data.scores)

    def cross_entropy(parameters: np.ndarray) -> float:
        z = parameters[0] * x + parameters[1]
        return float((np.logaddexp(0, z) - wanted * z).sum())

    expected = minimize(cross_entropy, [0.1, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-10}).x
    found = fit_calibration("platt", data)
    assert (found.slope, found.intercept) == pytest.approx(tuple(expected), abs=1e-5)


def test_platt_undoes_a_shift_and_a_temperature_cannot() -> None:
    data = two_classes(4000, shift=1.5)
    errors = {}
    for kind in KINDS:
        together, _ = calibrate(fit_calibration(kind, data), data.outputs, [1])
        errors[kind] = expected_calibration_error(together, data.truth)
    assert errors["none"] > 0.1
    assert errors["temperature"] > 0.05
    assert errors["platt"] < 0.02 > errors["isotonic"]
    # The outputs' log-odds are 0.7 of the true ones plus 1.5.
    found = fit_calibration("platt", data)
    assert found.slope == pytest.approx(1 / 0.7, rel=0.1)
    assert found.intercept == pytest.approx(-1.5 / 0.7, rel=0.1)


def test_a_temperature_undoes_overconfidence() -> None:
    assert fit_calibration("temperature", three_classes(4000)).temperature == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("apart", [False, True], ids=["overlapping", "without a mistake"])
def test_every_kind_is_certain_of_nothing_even_where_nothing_is_misranked(kind: CalibrationKind, apart: bool) -> None:
    data = three_classes()
    if apart:
        sure = as_int8(np.eye(3)[data.targets])
        data = Outputs(outputs=sure, targets=data.targets, groups=data.groups, positive=data.positive)
    together, each = calibrate(fit_calibration(kind, data), data.outputs, [1, 2])
    assert np.isfinite(each).all()
    if kind != "none":
        assert ((together > 0) & (together < 1)).all()


@pytest.mark.parametrize("kind", ["temperature", "platt", "isotonic"])
def test_scores_that_rank_the_wrong_way_round_are_refused(kind: CalibrationKind) -> None:
    data = two_classes()
    turned = Outputs(outputs=data.outputs[:, ::-1], targets=data.targets, groups=data.groups, positive=(1,))
    with pytest.raises(GateError, match="no higher scores than the rest") as caught:
        fit_calibration(kind, turned)
    assert "decision.calibration = none" in caught.value.remedy


def test_isotonic_is_scikit_learns_at_the_scores_that_were_fitted() -> None:
    from sklearn.isotonic import IsotonicRegression

    data = two_classes()
    expected = IsotonicRegression().fit_transform(data.scores, data.truth).clip(1 / 800, 1 - 1 / 800)
    together, _ = calibrate(fit_calibration("isotonic", data), data.outputs, [1])
    assert together == pytest.approx(expected, abs=1e-9)
