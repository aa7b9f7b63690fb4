"""Calibrated probabilities are what the formulas say, for two classes and for several positive ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax
from scipy.special import logit as scipys_logit

from edge.decision import Calibration
from edge_runtime.calibration import calibrate, logit, sigmoid

NONE = Calibration(kind="none")
TEMPERATURE = Calibration(kind="temperature", temperature=2.0)
PLATT = Calibration(kind="platt", slope=1.5, intercept=-2.0)
ISOTONIC = Calibration(kind="isotonic", knots=((0.2, 0.05), (0.6, 0.05), (0.8, 0.9)))
KINDS = [NONE, TEMPERATURE, PLATT, ISOTONIC]
by_kind = pytest.mark.parametrize("calibration", KINDS, ids=lambda c: c.kind)

# One row as an int8 softmax gives it: clean 64/256, pneumonia 128/256, covid19 64/256.
ROW = np.array([[0.25, 0.5, 0.25]], np.float32)


def test_without_calibration_the_outputs_are_left_as_they_are() -> None:
    outputs = np.array([[0.99609375, 0.0], [0.5, 0.49609375]], np.float32)
    together, each = calibrate(NONE, outputs, [1])
    np.testing.assert_array_equal(together, outputs[:, 1])
    np.testing.assert_array_equal(each, outputs)


def test_platt_is_the_sigmoid_of_a_line_in_the_log_odds_of_the_sum() -> None:
    # The sum is 3/4, its log-odds log 3: sigmoid(1.5 log 3 - 2) = 1 / (1 + e^2 / 3^1.5).
    together, each = calibrate(PLATT, ROW, [1, 2])
    expected = 1 / (1 + np.exp(2) / 3**1.5)
    assert together[0] == pytest.approx(expected)
    # Within the findings two thirds and one third, as the network has it.
    assert each[0] == pytest.approx([1 - expected, expected * 2 / 3, expected / 3])


def test_a_temperature_is_the_softmax_of_the_divided_logarithms() -> None:
    together, each = calibrate(TEMPERATURE, ROW, [1, 2])
    assert each[0] == pytest.approx(softmax(np.log(ROW[0].astype(float)) / 2))
    assert together[0] == pytest.approx(each[0, 1] + each[0, 2])


@pytest.mark.parametrize(("score", "expected"), [(0.0, 0.05), (0.5, 0.05), (0.7, 0.475), (0.8, 0.9), (1.0, 0.9)])
def test_isotonic_is_linear_between_its_knots_and_flat_outside(score: float, expected: float) -> None:
    together, _ = calibrate(ISOTONIC, np.array([[1 - score, score]]), [1])
    assert together[0] == pytest.approx(expected)


@by_kind
@pytest.mark.parametrize("positive", [[1], [2], [1, 2], [0, 2]], ids=str)
def test_the_shares_of_several_findings_sum_up(calibration: Calibration, positive: list[int]) -> None:
    outputs = np.random.default_rng(4).dirichlet([1, 1, 1], 50)
    together, each = calibrate(calibration, outputs, positive)
    assert each.sum(axis=1) == pytest.approx(np.ones(50))
    assert each[:, positive].sum(axis=1) == pytest.approx(together)
    assert (each >= 0).all()
    if calibration.kind in ("platt", "isotonic"):
        for members in (positive, [c for c in range(3) if c not in positive]):
            before, after = outputs[:, members], each[:, members]
            assert before / before.sum(axis=1, keepdims=True) == pytest.approx(after / after.sum(axis=1, keepdims=True))


@by_kind
@given(scores=st.lists(st.integers(0, 255), min_size=2, max_size=40))
def test_a_higher_score_of_two_classes_is_never_less_probable(calibration: Calibration, scores: list[int]) -> None:
    """Scores as int8 gives them: what is left for the other class is rounded too."""
    ranked = np.sort(np.array(scores)) / 256
    together, _ = calibrate(calibration, np.stack([np.minimum(1 - ranked, 255 / 256), ranked], axis=1), [1])
    assert (np.diff(together) >= 0).all()


@by_kind
def test_certainty_of_int8_stays_a_number(calibration: Calibration) -> None:
    """Two classes at 0 share alike; all at 0 but one is no error."""
    together, each = calibrate(calibration, np.array([[0.99609375, 0.0, 0.0], [0.0, 0.0, 0.99609375]]), [1, 2])
    assert np.isfinite(each).all()
    assert np.isfinite(together).all()
    assert ((together >= 0) & (together <= 1)).all()
    assert each[0, 1] == each[0, 2]


def test_log_odds_are_scipys_but_half_a_step_from_certainty() -> None:
    scores = np.array([0.0, 1 / 256, 0.3, 255 / 256, 1.0])
    expected = scipys_logit([1 / 512, 1 / 256, 0.3, 255 / 256, 511 / 512])
    assert logit(scores) == pytest.approx(expected)
    values = np.array([-800.0, -3.0, 0.0, 3.0, 800.0])
    assert sigmoid(values) == pytest.approx(expit(values))
