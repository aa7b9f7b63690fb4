"""Changed copies of training pictures: what the modality shows anyway, and nothing it never shows.

Each copy depends on (seed, epoch, picture) alone, so a run gives the same pictures on any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_convert.recipe import Modality, TrainRecipe


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of change, each drawn evenly.

    rotation_deg: either way. flips: whether mirror images occur. scale, shift: share of the side, either way.
    gain: of the contrast; brightness: share of full scale; tint: of each channel's gain, as lamps vary; gamma:
    exponent, either way. stain: of each channel's optical density, as the amount of dye varies (Beer and Lambert).
    blur_px: largest standard deviation of a defocus.
    """

    rotation_deg: float = 0.0
    flips: bool = False
    scale: float = 0.0
    shift: float = 0.0
    gain: float = 0.0
    brightness: float = 0.0
    tint: float = 0.0
    gamma: float = 0.0
    stain: float = 0.0
    blur_px: float = 0.0


AUGMENTATIONS: dict[Modality, Augmentation | None] = {
    # A smear has no up or down, and every slide its own stain, lamp and focus.
    "microscopy": Augmentation(
        rotation_deg=180,
        flips=True,
        scale=0.10,
        shift=0.04,
        gain=0.15,
        brightness=0.06,
        tint=0.06,
        gamma=0.15,
        stain=0.15,
        blur_px=0.7,
    ),
    # A chest has an up and a heart on one side; only exposure and placement vary.
    "radiography": Augmentation(rotation_deg=8, scale=0.10, shift=0.05, gain=0.2, brightness=0.08, gamma=0.25),
    # A hand-held camera leans, comes nearer, and finds its light as it is.
    "photograph": Augmentation(
        rotation_deg=15,
        flips=True,
        scale=0.20,
        shift=0.08,
        gain=0.2,
        brightness=0.10,
        tint=0.06,
        gamma=0.2,
        blur_px=0.7,
    ),
    "none": None,
}


def plan_for(recipe: TrainRecipe) -> Augmentation | None:
    """The modality's plan, with mirror images where the recipe asks for them or against them."""
    plan = AUGMENTATIONS[recipe.augmentation]
    if recipe.flips == "preset" or (plan is None and recipe.flips == "never"):
        return plan
    return replace(plan or Augmentation(), flips=recipe.flips == "always")


def augment(picture: NDArray[np.uint8], plan: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    """A changed copy. picture: (side, side, 3) uint8 RGB or (side, side, 1) grey; so is the result."""
    draw = random.uniform(-1, 1, 10)
    side = picture.shape[0]
    scale = 1 + plan.scale * draw[1]
    turn = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), plan.rotation_deg * float(draw[0]), float(scale))
    if plan.flips and random.random() < 0.5:
        turn[:, 0], turn[:, 2] = -turn[:, 0], turn[:, 2] + turn[:, 0] * (side - 1)
    turn[:, 2] += plan.shift * side * draw[2:4]
    moved = cv2.warpAffine(picture, turn, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if plan.blur_px and draw[9] > 0.5:
        sigma = plan.blur_px * 2 * (float(draw[9]) - 0.5) + 0.1
        moved = cv2.GaussianBlur(moved, (0, 0), sigma)
    tones = _tones(plan, draw[4:9], random, picture.shape[-1])
    # OpenCV leaves out the axis of a single channel.
    return np.asarray(cv2.LUT(moved, tones), np.uint8).reshape(picture.shape)


def _tones(
    plan: Augmentation, draw: NDArray[np.float64], random: np.random.Generator, channels: int
) -> NDArray[np.uint8]:
    """A tone curve for each channel; grey has no tint and no stain. Returns (1, 256, channels) uint8."""
    tints, stains = random.uniform(-1, 1, (2, channels)) if channels > 1 else np.zeros((2, 1))
    # The power of a transmitted intensity is a factor of its optical density.
    level = np.linspace(0, 1, 256)[:, np.newaxis] ** np.exp(plan.gamma * draw[0] + plan.stain * stains)
    gain = (1 + plan.gain * draw[1]) * (1 + plan.tint * tints)
    curve = (level - 0.5) * gain + 0.5 + plan.brightness * draw[2]
    return np.asarray((curve * 255 + 0.5).clip(0, 255)[np.newaxis], np.uint8)


def augmented_batch(
    pictures: NDArray[np.uint8], rows: NDArray[np.int64], plan: Augmentation | None, *, seed: int, epoch: int
) -> NDArray[np.uint8]:
    """The named rows of `pictures`, changed. pictures: (n, side, side, channels) uint8, may lie on disk."""
    if plan is None:
        return np.ascontiguousarray(pictures[rows])
    return np.stack(
        [augment(pictures[row], plan, np.random.default_rng((seed, epoch, int(row)))) for row in rows], dtype=np.uint8
    )
