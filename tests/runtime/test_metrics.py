"""The measures agree with scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_runtime.metrics import Ranking, expected_calibration_error, fit_threshold, ranking_intervals, wilson

# Scores as an int8 network gives them: multiples of 1/256, with many ties.
labelled_scores = st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=2, max_size=80).filter(
    lambda rows: {truth for _, truth in rows} == {True, False}
)


def split(rows: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([score / 256 for score, _ in rows]), np.array([truth for _, truth in rows])


@given(labelled_scores)
def test_auc_and_average_precision_are_scikit_learns(rows: list[tuple[int, bool]]) -> None:
    scores, truth = split(rows)
    ranking = Ranking(scores, truth)
    assert ranking.auc() == pytest.approx(roc_auc_score(truth, scores))
    assert ranking.average_precision() == pytest.approx(average_precision_score(truth, scores))


@given(labelled_scores, st.data())
def test_weights_count_pictures_several_times(rows: list[tuple[int, bool]], data: st.DataObject) -> None:
    scores, truth = split(rows)
    times = np.array(data.draw(st.lists(st.integers(1, 4), min_size=len(rows), max_size=len(rows))))
    weighted = Ranking(scores, truth).auc(times.astype(float))
    assert weighted == pytest.approx(roc_auc_score(np.repeat(truth, times), np.repeat(scores, times)))


@pytest.mark.parametrize(("k", "n"), [(0, 5), (5, 5), (1, 7), (63, 66), (400, 458)])
def test_the_interval_of_a_share_is_scipys_wilson(k: int, n: int) -> None:
    expected = binomtest(k, n).proportion_ci(method="wilson")
    ours = wilson(k, n)
    assert (ours.value, ours.low, ours.high) == pytest.approx((k / n, expected.low, expected.high))


def test_nothing_measured_is_anything_between_0_and_1() -> None:
    assert (wilson(0, 0).low, wilson(0, 0).high) == (0.0, 1.0)


@settings(max_examples=200)
@given(labelled_scores, st.sampled_from([0.5, 0.8, 0.95, 1.0]))
def test_the_threshold_reaches_the_target_and_no_higher_one_does(rows: list[tuple[int, bool]], target: float) -> None:
    scores, truth = split(rows)
    threshold = fit_threshold(scores, truth, target)
    assert 0 <= threshold <= 1
    assert (scores[truth] >= threshold).mean() >= target - 1e-9
    for higher in np.unique(scores[scores >= threshold]) + 1e-6:
        assert (scores[truth] >= higher).mean() < target


def test_the_threshold_keeps_half_a_step_from_the_score_it_must_not_lose() -> None:
    scores = np.array([0.1, 0.2, 0.6, 0.9])
    truth = np.array([False, False, True, True])
    assert fit_threshold(scores, truth, 1.0) == pytest.approx(0.4)


def test_intervals_widen_when_pictures_come_in_groups() -> None:
    random = np.random.default_rng(5)
    group_effect = np.repeat(random.normal(size=30), 10)
    truth = np.repeat(random.random(30) < 0.5, 10)
    scores = 1 / (1 + np.exp(-(group_effect + truth)))
    alone, _ = ranking_intervals(scores, truth, [str(i) for i in range(300)])
    grouped, _ = ranking_intervals(scores, truth, [str(i // 10) for i in range(300)])
    assert grouped.low < alone.low <= alone.value <= alone.high < grouped.high


def test_a_bootstrap_interval_covers_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    # Two normals one apart: the true AUC is Phi(1 / sqrt 2) = 0.7602.
    hits = 0
    for _ in range(40):
        truth = np.arange(120) < 40
        scores = random.normal(size=120) + truth
        interval, _ = ranking_intervals(scores, truth, [str(i) for i in range(120)])
        hits += interval.low <= 0.7602 <= interval.high
    assert hits >= 34


def test_probabilities_that_are_frequencies_have_no_calibration_error() -> None:
    scores = np.repeat([0.25, 0.75], 40)
    truth = np.concatenate([np.arange(40) < 10, np.arange(40) < 30])
    assert expected_calibration_error(scores, truth, bins=2) == pytest.approx(0.0)
    assert expected_calibration_error(1 - scores, truth, bins=2) == pytest.approx(0.5)
