"""Target profiles: published ones by name, others written out."""

from __future__ import annotations

import pytest

from edge.errors import EdgeError
from edge.profile import KNOWN, parse_profile


@pytest.mark.parametrize(
    ("name", "sensitivity", "specificity"),
    [("who-tb-screening-2014", 0.90, 0.70), ("who-tb-screening-2014-optimal", 0.95, 0.80)],
)
def test_the_published_profiles_ask_for_what_was_published(name: str, sensitivity: float, specificity: float) -> None:
    profile = parse_profile(name)
    assert (profile.name, profile.sensitivity, profile.specificity) == (name, sensitivity, specificity)
    assert "WHO 2014" in profile.source


@pytest.mark.parametrize(
    ("text", "sensitivity", "specificity"),
    [
        ("sensitivity >= 0.95", 0.95, None),
        ("sensitivity>=0.9", 0.9, None),
        ("  sensitivity >= 0.95 and specificity >= 0.8 ", 0.95, 0.8),
    ],
)
def test_an_expression_is_read_with_or_without_spaces(text: str, sensitivity: float, specificity: float | None) -> None:
    profile = parse_profile(text)
    assert (profile.sensitivity, profile.specificity) == (sensitivity, specificity)
    assert parse_profile(profile.name) == profile


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("who", "neither a name nor an expression"),
        ("", "neither a name nor an expression"),
        ("specificity >= 0.8", "neither a name nor an expression"),
        ("sensitivity >= 0.95 or specificity >= 0.8", "neither a name nor an expression"),
        ("sensitivity > 0.95", "neither a name nor an expression"),
        ("sensitivity >= 0.9.5", "could not convert"),
        ("sensitivity >= 95", "the profile's sensitivity is 95; it must be at least 0.5 and below 1"),
        ("sensitivity >= 1", "the profile's sensitivity is 1;"),
        ("sensitivity >= 0.95 and specificity >= 0", "the profile's specificity is 0;"),
    ],
)
def test_what_is_no_profile_is_refused_with_the_names_that_are(text: str, reason: str) -> None:
    with pytest.raises(EdgeError) as caught:
        parse_profile(text)
    assert reason in caught.value.message
    assert all(name in caught.value.message for name in KNOWN)
