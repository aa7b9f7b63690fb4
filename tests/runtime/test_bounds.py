"""Lower bounds agree with SciPy, and hold as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from edge_runtime.bounds import (
    Sampling,
    beta_cumulative,
    beta_quantile,
    clopper_pearson_lower,
    intraclass_correlation,
    pictures_needed,
)


@pytest.mark.parametrize(("k", "n"), [(0, 5), (1, 7), (63, 66), (66, 66), (58, 58), (59, 59), (400, 458), (1990, 2000)])
def test_the_lower_bound_is_scipys_one_sided_clopper_pearson(k: int, n: int) -> None:
    expected = binomtest(k, n, alternative="greater").proportion_ci(0.95, method="exact").low
    assert clopper_pearson_lower(k, n) == pytest.approx(expected, abs=1e-9)


def test_66_of_66_show_95_percent_and_58_of_58_do_not() -> None:
    assert clopper_pearson_lower(66, 66) == pytest.approx(0.9556, abs=5e-5)
    assert clopper_pearson_lower(58, 58) < 0.95 < clopper_pearson_lower(59, 59)
    assert 58 < pictures_needed(0.95) < 59


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.5), (1, 1), (2.5, 7.3), (61.2, 1), (57.4, 4.8), (900, 30.5)])
def test_the_beta_distribution_of_effective_numbers_is_scipys(a: float, b: float) -> None:
    for x in (0.0, 0.01, 0.3, 0.9, 0.999, 1.0):
        assert beta_cumulative(x, a, b) == pytest.approx(beta.cdf(x, a, b), abs=1e-10)
    for share in (0.05, 0.5):
        assert beta_quantile(share, a, b) == pytest.approx(beta.ppf(share, a, b), abs=1e-9)


def test_the_intraclass_correlation_of_a_small_table_by_hand() -> None:
    # Groups (1, 3) and (5, 7): between 16, within 2, so (16 - 2) / (16 + 2).
    assert intraclass_correlation(np.array([1.0, 3, 5, 7]), np.array([0, 0, 1, 1])) == pytest.approx(14 / 18)
    assert intraclass_correlation(np.array([1.0, 7, 1, 7]), np.array([0, 0, 1, 1])) == 0
    assert intraclass_correlation(np.full(4, 2.0), np.array([0, 0, 1, 1])) == 1


def test_independent_pictures_are_bounded_by_clopper_and_pearson_alone() -> None:
    odds = np.random.default_rng(0).normal(size=40)
    sampling = Sampling(odds, [str(i) for i in range(40)])
    assert sampling.deff == 1
    assert sampling.lower(np.arange(40) < 37) == clopper_pearson_lower(37, 40)


def test_pictures_that_repeat_their_group_count_as_one_each() -> None:
    odds = np.repeat(np.random.default_rng(0).normal(size=20), 5)
    groups = [str(i // 5) for i in range(100)]
    sampling = Sampling(odds, groups)
    assert sampling.deff == pytest.approx(5)
    assert sampling.lower(np.ones(100, np.bool_)) == pytest.approx(0.05 ** (1 / 20))


def test_of_fewer_than_five_groups_each_counts_as_one_picture() -> None:
    odds = np.random.default_rng(0).normal(size=60)
    sampling = Sampling(odds, [str(i % 3) for i in range(60)])
    assert sampling.deff == 20
    assert sampling.lower(np.ones(60, np.bool_)) == pytest.approx(0.05 ** (1 / 3))


def test_nothing_shows_nothing() -> None:
    assert Sampling(np.zeros(0), []).lower(np.zeros(0, np.bool_)) == 0
    assert Sampling(np.zeros(3), ["a", "b", "c"]).lower(np.zeros(3, np.bool_)) == 0


def test_misses_of_one_group_lower_the_bound_more_than_misses_apart() -> None:
    groups = [str(i // 4) for i in range(120)]
    odds = np.random.default_rng(1).normal(size=120)
    sampling = Sampling(odds, groups)
    together, apart = np.ones(120, np.bool_), np.ones(120, np.bool_)
    together[:8] = False
    apart[::15] = False
    assert together.sum() == apart.sum()
    assert sampling.lower(together) < sampling.lower(apart)


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("in_one", [1, 3])
def test_reaching_a_target_is_the_same_question_as_the_bound(target: float, in_one: int) -> None:
    random = np.random.default_rng(2)
    sampling = Sampling(random.normal(size=90), [str(i // in_one) for i in range(90)])
    for missed in range(0, 20):
        success = np.arange(90) >= missed
        assert sampling.reaches(success, target) == (sampling.lower(success) >= target)


@pytest.mark.parametrize(("groups", "in_one", "shared"), [(60, 1, 0.0), (30, 4, 0.6), (12, 6, 0.6)])
def test_the_bound_lies_below_the_truth_about_as_often_as_it_says(groups: int, in_one: int, shared: float) -> None:
    """Pictures are right where a normal score, partly their group's own, exceeds -1.2816: nine in ten."""
    random = np.random.default_rng(7)
    names = [str(i // in_one) for i in range(groups * in_one)]
    held = 0
    for _ in range(100):
        own = np.repeat(random.normal(size=groups), in_one)
        odds = np.sqrt(shared) * own + np.sqrt(1 - shared) * random.normal(size=len(own))
        held += Sampling(odds, names, resamples=200).lower(odds > -1.2816) <= 0.9
    # Of 100 at 95 %, fewer than 89 would be seen once in a hundred times.
    assert held >= 89
