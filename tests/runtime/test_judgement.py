"""What a threshold gives over pictures and groups, what it shows of a profile, and what a referral then means."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from edge.errors import DataError
from edge.profile import parse_profile
from edge_runtime.calibration import logit
from edge_runtime.judgement import Cases, Judged, judge, predictive, require_groups, standing

SCORES = np.array([0.1, 0.9, 0.2, 0.3, 0.7, 0.4])
TRUTH = np.array([False, True, True, False, False, False])
GROUPS = ["a", "a", "b", "b", "c", "d"]


def test_a_group_is_as_suspect_as_its_most_suspect_picture() -> None:
    cases = Cases.at("group", SCORES, TRUTH, GROUPS, logit(SCORES))
    assert cases.groups == ("a", "b", "c", "d")
    assert cases.scores.tolist() == [0.9, 0.3, 0.7, 0.4]
    assert cases.truth.tolist() == [True, True, False, False]
    judged = judge(cases, 0.3)
    # b is referred through its healthy picture: the finding's own score is below the threshold.
    assert (judged.positives, judged.referred, judged.negatives, judged.cleared) == (2, 2, 2, 0)


def test_by_picture_the_same_threshold_misses_that_finding() -> None:
    judged = judge(Cases.at("picture", SCORES, TRUTH, GROUPS, logit(SCORES)), 0.3)
    assert (judged.positives, judged.referred, judged.negatives, judged.cleared) == (2, 1, 4, 1)


def test_a_score_at_the_threshold_is_referred_and_so_are_its_ties() -> None:
    scores = np.array([0.5, 0.5, 0.5, 0.2])
    truth = np.array([True, True, False, False])
    judged = judge(Cases.at("picture", scores, truth, list("abcd"), logit(scores)), 0.5)
    assert (judged.referred, judged.cleared) == (2, 1)


def measured(hits: int, positives: int, cleared: int, negatives: int) -> Judged:
    """Independent pictures of which so many are decided rightly."""
    scores = np.concatenate([np.arange(positives) < hits, np.arange(negatives) >= cleared]).astype(float)
    truth = np.arange(positives + negatives) < positives
    return judge(Cases.at("picture", scores, truth, [str(i) for i in range(len(truth))], logit(scores)), 0.5)


@pytest.mark.parametrize(
    ("counts", "profile", "met", "words"),
    [
        ((66, 66, 100, 300), "sensitivity >= 0.95", True, "profile met: sensitivity is at least 0.9556"),
        ((65, 66, 100, 300), "sensitivity >= 0.95", False, "profile NOT met: the lower bound of sensitivity is 0.93"),
        (
            (58, 58, 100, 300),
            "sensitivity >= 0.95",
            False,
            "profile cannot be shown: 58 positive pictures are too few: 59 are needed to show sensitivity 0.95",
        ),
        ((66, 66, 290, 300), "sensitivity >= 0.95 and specificity >= 0.9", True, "and specificity is at least 0.94"),
        ((66, 66, 270, 300), "sensitivity >= 0.95 and specificity >= 0.9", False, "lower bound of specificity is 0.86"),
        (
            (66, 66, 10, 10),
            "sensitivity >= 0.95 and specificity >= 0.8",
            False,
            "cannot be shown: 10 negative pictures are too few: 14 are needed to show specificity 0.8",
        ),
        (
            (58, 58, 270, 300),
            "sensitivity >= 0.95 and specificity >= 0.9",
            False,
            "profile NOT met: 58 positive pictures are too few: 59",
        ),
    ],
)
def test_a_profile_is_met_by_the_lower_bounds_alone(
    counts: tuple[int, int, int, int], profile: str, met: bool, words: str
) -> None:
    found = standing(parse_profile(profile), measured(*counts))
    assert found.met == met
    assert words in found.words


def test_the_bounds_are_clopper_and_pearsons() -> None:
    judged = measured(63, 66, 280, 300)
    for bound, k, n in ((judged.sensitivity_bound, 63, 66), (judged.specificity_bound, 280, 300)):
        expected = binomtest(k, n, alternative="greater").proportion_ci(0.95, method="exact").low
        assert bound == pytest.approx(expected)


def test_predictive_values_are_bayes_rule() -> None:
    # At 2 %, sensitivity 0.9 and specificity 0.8: of 1000 people 18 + 196 are referred, 784 + 2 cleared.
    found = predictive(measured(90, 100, 80, 100), 0.02)
    assert found.ppv.value == pytest.approx(18 / 214)
    assert found.npv.value == pytest.approx(784 / 786)
    assert found.ppv.low < found.ppv.value < found.ppv.high
    assert found.npv.low < found.npv.value < found.npv.high


def test_nothing_is_promised_of_a_referral_that_finds_nothing() -> None:
    assert predictive(measured(0, 10, 10, 10), 0.02).ppv.value == 0


def test_decisions_about_groups_need_groups() -> None:
    require_groups("picture", False)
    require_groups("group", True)
    with pytest.raises(DataError, match="has no groups"):
        require_groups("group", False)
