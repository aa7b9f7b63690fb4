"""Mixup and CutMix: training pictures made of two, with the labels in the same shares.

What a step mixes depends on (seed, epoch, step) alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_convert.recipe import TrainRecipe


def mix(
    recipe: TrainRecipe,
    pictures: NDArray[np.uint8],
    targets: NDArray[np.float32],
    random: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A batch mixed with itself in another order. Where the recipe has both kinds on, one of the two is drawn.

    pictures: (n, side, side, channels) uint8. targets: (n, classes), rows sum to 1. Zhang et al. 2018; Yun et al. 2019.
    """
    kinds = [(kind, alpha) for kind, alpha in ((_blend, recipe.mixup), (_paste, recipe.cutmix)) if alpha > 0]
    if not kinds:
        return pictures, targets
    kind, alpha = kinds[random.integers(len(kinds))]
    partner = random.permutation(len(pictures))
    pictures, share = kind(pictures, partner, float(random.beta(alpha, alpha)), random)
    return pictures, (share * targets + (1 - share) * targets[partner]).astype(np.float32)


def _blend(
    pictures: NDArray[np.uint8], partner: NDArray[np.int64], share: float, _random: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    mixed = share * pictures.astype(np.float32) + (1 - share) * pictures[partner].astype(np.float32)
    return np.rint(mixed).astype(np.uint8), share


def _paste(
    pictures: NDArray[np.uint8], partner: NDArray[np.int64], share: float, random: np.random.Generator
) -> tuple[NDArray[np.uint8], float]:
    """A rectangle of about (1 - share) of the area comes from the partner. Returns the share that is left."""
    side = pictures.shape[1]
    half = round(side * np.sqrt(1 - share) / 2)
    row, column = (int(v) for v in random.integers(0, side, 2))
    rows, columns = slice(max(0, row - half), row + half), slice(max(0, column - half), column + half)
    mixed = pictures.copy()
    mixed[:, rows, columns] = pictures[partner][:, rows, columns]
    pasted = mixed[0, rows, columns, 0].size
    return mixed, 1 - pasted / side**2
