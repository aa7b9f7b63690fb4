"""The tile as absorbed light, and the soft shapes that are drawn on it.

Everything on the slide is optical density (Beer and Lambert): what lies on top of something adds to it, and
only the camera turns the sum into colours. Shapes are distances with soft edges, so nothing needs
supersampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Stain = tuple[float, float, float]

TILE_PX = 224


@dataclass(frozen=True, kw_only=True)
class Patch:
    """A square part of the canvas around a point, cut off at the tile's edge, possibly empty.

    density: (rows, columns, 3) float32, a view into the canvas. grain: (rows, columns) float32, smooth noise
    of zero mean and unit variance. dx, dy: (rows, columns) float32, pixels from the point.
    origin_xy: the patch's upper left corner, in pixels of the tile.
    """

    density: Field
    grain: Field
    dx: Field
    dy: Field
    origin_xy: tuple[int, int]

    @property
    def radius(self) -> Field:
        """Pixels from the point."""
        return cast(Field, np.hypot(self.dx, self.dy))

    @property
    def angle(self) -> Field:
        """Radians, -pi to pi."""
        return cast(Field, np.arctan2(self.dy, self.dx))

    def turned(self, angle: float) -> tuple[Field, Field]:
        """Pixels along and across a direction, in radians."""
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return self.dx * cos + self.dy * sin, self.dy * cos - self.dx * sin

    def absorb(self, amount: Field, stain: Stain) -> None:
        """Add stain. amount: (rows, columns), 0 is none. stain: optical density in R, G, B at amount 1."""
        # A channel at a time: broadcasting over a last axis of 3 is several times slower.
        for channel, density in enumerate(stain):
            self.density[..., channel] += amount * np.float32(density)

    def clear(self, amount: Field) -> None:
        """Push aside what lies here. amount: (rows, columns), 0 leaves it, 1 leaves bare glass."""
        rest = 1 - amount
        for channel in range(3):
            self.density[..., channel] *= rest


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """What a tile absorbs. density: (TILE_PX, TILE_PX, 3) float32, natural logarithm. grain: as in Patch."""

    density: Field
    grain: Field

    @classmethod
    def blank(cls, rng: np.random.Generator) -> Canvas:
        """Bare glass."""
        noise = rng.standard_normal((TILE_PX, TILE_PX), np.float32)
        grain = cv2.GaussianBlur(noise, (0, 0), 1.0)
        return cls(
            density=np.zeros((TILE_PX, TILE_PX, 3), np.float32),
            grain=(grain / grain.std()).astype(np.float32),
        )

    def patch(self, x: float, y: float, reach: float) -> Patch:
        """The part of the tile within `reach` pixels of (x, y), in pixels of the tile."""
        left, right = _span(x, reach)
        top, bottom = _span(y, reach)
        columns = np.arange(left, right, dtype=np.float32) - np.float32(x)
        rows = np.arange(top, bottom, dtype=np.float32) - np.float32(y)
        shape = (len(rows), len(columns))
        return Patch(
            density=self.density[top:bottom, left:right],
            grain=self.grain[top:bottom, left:right],
            dx=np.broadcast_to(columns[None, :], shape),
            dy=np.broadcast_to(rows[:, None], shape),
            origin_xy=(left, top),
        )


def _span(centre: float, reach: float) -> tuple[int, int]:
    low = min(max(int(np.floor(centre - reach)), 0), TILE_PX)
    high = min(max(int(np.ceil(centre + reach)) + 1, low), TILE_PX)
    return low, high


def coverage(distance_px: Field, softness_px: float) -> Field:
    """How much of a pixel a shape covers. distance_px: outwards from its outline. Returns 0 to 1."""
    ramp = np.clip(0.5 - distance_px / np.float32(softness_px), 0, 1)
    return cast(Field, ramp * ramp * (3 - 2 * ramp))


def bump(distance: Field, width: float) -> Field:
    """A Gaussian ridge: 1 where distance is 0, 1/e at `width`."""
    return cast(Field, np.exp(-np.square(distance / np.float32(width))))


def lobed(angle: Field, lobes: tuple[tuple[int, float, float], ...]) -> Field:
    """An outline's radius relative to a circle's. lobes: (waves around, height, phase in radians)."""
    outline = np.ones_like(angle)
    for waves, height, phase in lobes:
        outline += np.float32(height) * np.cos(np.float32(waves) * angle + np.float32(phase))
    return outline


def random_lobes(
    rng: np.random.Generator, heights: tuple[tuple[int, float], ...]
) -> tuple[tuple[int, float, float], ...]:
    """Lobes of random height and phase. heights: (waves around, standard deviation of the height)."""
    return tuple((waves, float(rng.normal(0, spread)), float(rng.uniform(0, 2 * np.pi))) for waves, spread in heights)


def disc(patch: Patch, x: float, y: float, radius_px: float, softness_px: float = 1.4) -> Field:
    """A soft disc around a point, in pixels from the patch's point."""
    away = np.hypot(patch.dx - np.float32(x), patch.dy - np.float32(y))
    return coverage(away - np.float32(radius_px), softness_px)


def blob(patch: Patch, radius_px: float, lobes: tuple[tuple[int, float, float], ...], softness_px: float) -> Field:
    """A soft shape around the patch's point with an uneven outline."""
    outline = lobed(patch.angle, lobes) * np.float32(radius_px)
    return coverage(patch.radius - outline, softness_px)
