"""What a data set is to a bundle: its own splits come back, another's are never made up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import TinyBuild

from edge.bundle import Manifest, read_bundle
from edge.dataset import Dataset, read_dataset
from edge.errors import DataError
from edge.split import assign_splits
from edge_runtime.provenance import flattery, in_the_builds_splits


@pytest.fixture
def without_splits(tiny_build: TinyBuild) -> Dataset:
    """The build's pictures and groups, as a set that was never split."""
    dataset = read_dataset(tiny_build.data)
    return replace(dataset, has_splits=False, samples=tuple(replace(s, split=None) for s in dataset.samples))


@pytest.fixture
def manifest(tiny_build: TinyBuild, without_splits: Dataset) -> Manifest:
    """The manifest of a bundle that was built from that set."""
    built = read_bundle(tiny_build.bundle).manifest
    return replace(built, data={**built.data, "fingerprint": without_splits.fingerprint()})


def test_the_set_that_was_built_from_gets_the_builds_splits(without_splits: Dataset, manifest: Manifest) -> None:
    assert in_the_builds_splits(without_splits, manifest) == assign_splits(without_splits, seed=3)


@pytest.mark.parametrize("change", ["one picture fewer", "other groups"])
def test_another_set_is_never_split_as_if_it_were_the_builds(
    without_splits: Dataset, manifest: Manifest, change: str
) -> None:
    samples = without_splits.samples
    other = samples[1:] if change == "one picture fewer" else tuple(replace(s, group=s.name) for s in samples)
    with pytest.raises(DataError, match="cannot be made again"):
        in_the_builds_splits(replace(without_splits, samples=other), manifest)


def test_the_builds_pictures_are_known_whatever_groups_and_splits_they_have(
    without_splits: Dataset, manifest: Manifest
) -> None:
    regrouped = replace(without_splits, samples=tuple(replace(s, group=s.name) for s in without_splits.samples))
    for split, word in ((None, "trained"), ("train", "trained"), ("val", "threshold")):
        assert word in (flattery(regrouped, manifest, split) or "")
    assert flattery(regrouped, manifest, "test") is None
    fewer = replace(without_splits, samples=without_splits.samples[1:])
    assert flattery(fewer, manifest, None) is None
