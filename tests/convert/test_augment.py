"""Augmentation: reproducible, bounded, and of the modality."""

from __future__ import annotations

import numpy as np
import pytest

from edge_convert.train.augment import AUGMENTATIONS, Augmentation, augment, augmented_batch

PICTURES = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3)).astype(np.uint8)
ROWS = np.arange(6)


@pytest.mark.parametrize("modality", [m for m, plan in AUGMENTATIONS.items() if plan])
def test_a_copy_depends_on_seed_epoch_and_picture_alone(modality: str) -> None:
    plan = AUGMENTATIONS[modality]  # type: ignore[index]
    first = augmented_batch(PICTURES, ROWS, plan, seed=1, epoch=2)
    np.testing.assert_array_equal(first, augmented_batch(PICTURES, ROWS, plan, seed=1, epoch=2))
    np.testing.assert_array_equal(first[3:], augmented_batch(PICTURES, ROWS[3:], plan, seed=1, epoch=2))
    assert (first != augmented_batch(PICTURES, ROWS, plan, seed=1, epoch=3)).any()
    assert (first != augmented_batch(PICTURES, ROWS, plan, seed=2, epoch=2)).any()
    assert first.dtype == np.uint8
    assert first.shape == PICTURES.shape


def test_no_augmentation_changes_nothing() -> None:
    np.testing.assert_array_equal(augmented_batch(PICTURES, ROWS, AUGMENTATIONS["none"], seed=1, epoch=1), PICTURES)


def test_a_plan_without_ranges_changes_nothing() -> None:
    np.testing.assert_array_equal(augment(PICTURES[0], Augmentation(), np.random.default_rng(0)), PICTURES[0])


def test_a_radiograph_is_never_mirrored_or_turned_upside_down() -> None:
    """A bright mark at the upper left stays in the upper left quarter."""
    plate = np.zeros((100, 100, 3), np.uint8)
    plate[10:30, 10:30] = 255
    plan = AUGMENTATIONS["radiography"]
    assert plan is not None
    for index in range(200):
        changed = augment(plate, plan, np.random.default_rng(index))[..., 0].astype(int)
        row, column = (np.argwhere(changed > changed.max() * 0.8)).mean(axis=0)
        assert row < 50
        assert column < 50


def test_a_smear_is_seen_from_every_side() -> None:
    tile = np.full((100, 100, 3), 200, np.uint8)
    tile[20:30, 40:60] = 0
    plan = AUGMENTATIONS["microscopy"]
    assert plan is not None
    quarters = set()
    for index in range(60):
        changed = augment(tile, plan, np.random.default_rng(index)).sum(axis=2)
        row, column = np.unravel_index(int(changed.argmin()), changed.shape)
        quarters.add((row > 50, column > 50))
    assert len(quarters) == 4


def test_a_grey_picture_stays_one_channel_and_has_no_tint() -> None:
    grey = np.random.default_rng(4).integers(0, 256, (32, 32, 1), np.uint8)
    microscopy = AUGMENTATIONS["microscopy"]
    assert microscopy is not None
    changed = augment(grey, microscopy, np.random.default_rng(1))
    assert changed.shape == (32, 32, 1)
    assert (changed != grey).any()
    np.testing.assert_array_equal(augment(grey, Augmentation(tint=0.9), np.random.default_rng(1)), grey)
