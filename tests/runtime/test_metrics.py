"""The measures agree with scikit-learn and SciPy."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, t
from sklearn.metrics import average_precision_score, roc_auc_score

from edge_runtime.metrics import (
    Ranking,
    equal_bins,
    expected_calibration_error,
    fit_threshold,
    group_resamples,
    ranking_intervals,
    tails,
    wilson,
)

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
    # In log-odds: odds of 0.2 and 0.6 are 1/4 and 3/2, their geometric mean is sqrt(3/8).
    assert fit_threshold(scores, truth, 1.0) == pytest.approx((3 / 8) ** 0.5 / (1 + (3 / 8) ** 0.5))


def test_scores_that_differ_by_a_hair_are_not_parted_by_a_threshold() -> None:
    scores = np.array([0.3, 0.6, 0.6 + 1e-15])
    threshold = fit_threshold(scores, np.array([False, True, True]), 0.5)
    assert 0.3 < threshold < 0.6


@pytest.mark.parametrize("scores", [[0.0, 0.5], [0.0, 0.0], [0.5, 1.0], [1.0, 1.0]])
def test_a_threshold_beside_certainty_still_refers_the_finding(scores: list[float]) -> None:
    threshold = fit_threshold(np.array(scores), np.array([False, True]), 1.0)
    assert threshold <= scores[1]
    assert threshold > scores[0] or scores[0] == scores[1]


def test_intervals_widen_when_pictures_come_in_groups() -> None:
    random = np.random.default_rng(5)
    group_effect = np.repeat(random.normal(size=30), 10)
    truth = np.repeat(random.random(30) < 0.5, 10)
    scores = 1 / (1 + np.exp(-(group_effect + truth)))
    alone, _ = ranking_intervals(scores, truth, [str(i) for i in range(300)])
    grouped, _ = ranking_intervals(scores, truth, [str(i // 10) for i in range(300)])
    assert grouped.low < alone.low <= alone.value <= alone.high < grouped.high


def named(n: int, in_one: int = 1) -> list[str]:
    """Groups of n pictures, so many in each."""
    return [str(i // in_one) for i in range(n)]


def two_normals(
    random: np.random.Generator, *, groups: int, in_one: int, apart: float, shared: float
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and truth of groups that are positive in turns; `shared` of the variance is the group's own."""
    own = np.repeat(random.normal(size=groups), in_one)
    truth = np.repeat(np.arange(groups) % 2 == 0, in_one)
    return np.sqrt(shared) * own + np.sqrt(1 - shared) * random.normal(size=groups * in_one) + apart * truth, truth


@pytest.mark.parametrize(
    ("groups", "in_one", "apart"),
    [
        pytest.param(120, 1, 1.0, id="120 pictures"),
        pytest.param(20, 1, 3.5, id="20 pictures, often without a mistake"),
        pytest.param(30, 10, 1.5, id="30 groups of 10"),
        pytest.param(10, 10, 1.5, id="10 groups of 10"),
        pytest.param(6, 20, 1.5, id="6 groups of 20"),
        pytest.param(10, 10, 3.5, id="10 groups of 10, often without a mistake"),
    ],
)
def test_an_interval_covers_about_as_often_as_it_says(groups: int, in_one: int, apart: float) -> None:
    random = np.random.default_rng(11)
    true_area = norm.cdf(apart / np.sqrt(2))
    runs, hits = 40, 0
    for _ in range(runs):
        scores, truth = two_normals(random, groups=groups, in_one=in_one, apart=apart, shared=0.4)
        interval, _ = ranking_intervals(scores, truth, named(len(scores), in_one))
        hits += interval.low <= true_area <= interval.high
    # Of 40 runs at 95 %, fewer than 34 would be seen once in 300 times.
    assert hits >= 34


def test_a_ranking_without_a_mistake_is_not_certain_and_more_pictures_make_it_surer() -> None:
    lows = []
    for n in (5, 20, 200):
        truth = np.arange(2 * n) < n
        for interval in ranking_intervals(truth.astype(float), truth, named(2 * n)):
            assert (interval.value, interval.high) == (1.0, 1.0)
            lows.append(interval.low)
    assert lows[0::2] == sorted(lows[0::2])
    assert lows[0] < 0.7 < lows[2] < 0.95 < lows[4] < 0.995
    # Average precision: no wider than the share of n positives, all of them right.
    assert lows[1::2] == pytest.approx([binomtest(n, n).proportion_ci(method="wilson").low for n in (5, 20, 200)])


def test_pictures_of_few_groups_are_no_more_evidence_than_the_groups() -> None:
    truth = np.arange(400) % 2 == 0
    scores = truth + np.random.default_rng(3).normal(size=400)
    wide = [ranking_intervals(scores, truth, named(400, 400 // groups))[0] for groups in (1, 2, 4, 5, 40)]
    widths = [interval.high - interval.low for interval in wide]
    assert widths[:4] == sorted(widths[:4], reverse=True)
    assert widths[0] > 0.7
    # The groups are alike here: once there are enough to show it, many small ones say no more than a few large ones.
    assert widths[2] > 0.4 > 0.2 > max(widths[3:])


def test_one_group_without_a_mistake_counts_as_one_picture() -> None:
    truth = np.arange(100) < 50
    area, precision = ranking_intervals(truth.astype(float), truth, ["the only slide"] * 100)
    one_of_one = wilson(1, 1)
    for interval in (area, precision):
        assert (interval.low, interval.high) == pytest.approx((one_of_one.low, 1.0))


@settings(max_examples=60, deadline=None)
@given(labelled_scores, st.integers(1, 9))
def test_an_interval_holds_its_value_and_stays_within_0_and_1(rows: list[tuple[int, bool]], in_one: int) -> None:
    scores, truth = split(rows)
    for interval in ranking_intervals(scores, truth, named(len(rows), in_one)):
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.low < interval.high


@pytest.mark.parametrize("n", [5, 6, 10, 30, 200])
def test_the_percentiles_move_outwards_for_few_groups(n: int) -> None:
    low, high = tails(named(2 * n), np.arange(2 * n) < n)
    expected = 100 * norm.cdf(-np.sqrt(n / (n - 1)) * t.ppf(0.975, n - 1))
    assert low == pytest.approx(expected, rel=0.03)
    assert low + high == pytest.approx(100)


def test_resamples_draw_whole_groups_and_never_lack_a_truth() -> None:
    truth = np.array([True, True, False, False, False, False])
    groups = ["a", "a", "b", "b", "c", "c"]
    drawn = list(group_resamples(groups, truth))
    assert 600 < len(drawn) < 800
    for weights in drawn:
        assert (weights[0::2] == weights[1::2]).all()
        assert weights.sum() == 6
        assert weights[0] > 0 < weights[2] + weights[4]


def test_equal_scores_are_never_split_and_their_order_does_not_matter() -> None:
    scores, truth = np.full(1000, 0.5), np.arange(1000) < 500
    assert expected_calibration_error(scores, truth) == pytest.approx(0.0)
    assert [len(part) for part in equal_bins(scores, 10)] == [1000]


@given(labelled_scores, st.integers(1, 12), st.randoms(use_true_random=False))
def test_bins_are_of_like_count_and_in_order(rows: list[tuple[int, bool]], bins: int, random: Random) -> None:
    scores, truth = split(rows)
    parts = equal_bins(scores, bins)
    assert 1 <= len(parts) <= bins
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
    for lower, upper in pairwise(parts):
        assert scores[lower].max() < scores[upper].min()
    # What is too many in a bin is a tie: without its last score, or without its first, it would hold its share at most.
    for part in parts:
        ends = [(scores[part] == end).sum() for end in (scores[part].min(), scores[part].max())]
        assert len(part) - sum(ends) / 2 <= len(rows) / bins + 1e-9 or len(set(scores[part])) == 1
    shuffled = rows.copy()
    random.shuffle(shuffled)
    again = expected_calibration_error(*split(shuffled), bins)
    assert again == pytest.approx(expected_calibration_error(scores, truth, bins))


@pytest.mark.parametrize(("n", "bins"), [(10, 10), (25, 4), (103, 10)])
def test_different_scores_fill_the_bins_alike(n: int, bins: int) -> None:
    sizes = [len(part) for part in equal_bins(np.random.default_rng(0).permutation(n) / n, bins)]
    assert len(sizes) == bins
    assert max(sizes) - min(sizes) <= 1


def test_probabilities_that_are_frequencies_have_no_calibration_error() -> None:
    scores = np.repeat([0.25, 0.75], 40)
    truth = np.concatenate([np.arange(40) < 10, np.arange(40) < 30])
    assert expected_calibration_error(scores, truth, bins=2) == pytest.approx(0.0)
    assert expected_calibration_error(1 - scores, truth, bins=2) == pytest.approx(0.5)
