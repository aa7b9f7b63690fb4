"""Labels as people type them."""

from __future__ import annotations

import pytest

from edge_runtime.labels import spelled_otherwise

LABELS = ("no_parasite", "parasite", "normal", "type-1", "type-2")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("No Parasite", "no_parasite"),
        ("no-parasite", "no_parasite"),
        ("PARASITE", "parasite"),
        ("Type 1", "type-1"),
        ("parasite-", None),
        ("abnormal", None),
        ("non_parasite", None),
        ("parasites", None),
        ("type-3", None),
        ("covid19", None),
    ],
)
def test_another_spelling_is_the_same_name_and_another_letter_never(typed: str, meant: str | None) -> None:
    assert spelled_otherwise(typed, LABELS) == meant


def test_two_labels_that_differ_by_capitals_alone_cannot_be_told_apart() -> None:
    assert spelled_otherwise("a", ["A", "a "]) == "A"
    assert spelled_otherwise("AB", ["Ab", "aB"]) is None
