"""What a data set is to a bundle: the one that it was built from, or another."""

from __future__ import annotations

from edge.bundle import Manifest
from edge.dataset import Dataset
from edge.errors import DataError
from edge.split import assign_splits

FLATTERED = {
    None: "these pictures trained the model: what follows flatters it; see --split test",
    "train": "these pictures trained the model: what follows flatters it; see --split test",
    "val": "these pictures chose the epoch, the calibration and the threshold: what follows flatters; see --split test",
}


def in_the_builds_splits(dataset: Dataset, manifest: Manifest) -> Dataset:
    """The data set in the very splits of the build, where it has none of its own.

    dataset: read with the build's group pattern. Raises DataError where it is not what the bundle was built from: other
    pictures or groups would be dealt out otherwise, and what trained the model could come to be called its test.
    """
    if dataset.has_splits:
        return dataset
    if dataset.fingerprint() != manifest.data.get("fingerprint"):
        raise DataError(
            "these are not exactly the pictures and groups that the bundle was built from, so that build's splits "
            "cannot be made again",
            remedy="leave --split out, or name the splits in a manifest.csv",
        )
    return assign_splits(dataset, seed=int(manifest.recipe.get("seed", 0)))


def flattery(dataset: Dataset, manifest: Manifest, split: str | None) -> str | None:
    """Why measures on this split are better than on new pictures; None where nothing is known against them.

    The build's pictures are known by their bytes, whatever groups and splits they are now read with.
    """
    if split not in FLATTERED or dataset.identity().parts["files"] != manifest.data.get("files"):
        return None
    return FLATTERED[split]
