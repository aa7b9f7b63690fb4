"""Red cells: where they lie on a tile and what each looks like."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_convert.synthetic.canvas import TILE_PX, Canvas, Field, Patch, blob, bump, lobed, random_lobes
from edge_convert.synthetic.slide import Slide

# A cell whose centre is this far inside can be the host of a parasite: enough of it is in the picture.
HOST_MARGIN_PX = 30


@dataclass(frozen=True, kw_only=True)
class RedCell:
    """One red cell. x, y, radius_px in pixels of the tile; lobes: see `lobed`; pallor: 0 is a spherocyte."""

    x: float
    y: float
    radius_px: float
    lobes: tuple[tuple[int, float, float], ...]
    pallor: float
    pallor_width: float
    thickness: float

    def patch(self, canvas: Canvas) -> Patch:
        """The part of the canvas that holds the cell."""
        return canvas.patch(self.x, self.y, self.radius_px * 1.5)

    def mask(self, patch: Patch) -> Field:
        """0 to 1, how much of each pixel is cell."""
        return blob(patch, self.radius_px, self.lobes, 2.0)

    @property
    def can_host(self) -> bool:
        """Whether enough of the cell is in the picture to show what is inside it."""
        inside = (HOST_MARGIN_PX, TILE_PX - HOST_MARGIN_PX)
        return inside[0] <= self.x <= inside[1] and inside[0] <= self.y <= inside[1]


def scatter_cells(slide: Slide, rng: np.random.Generator) -> list[RedCell]:
    """The cells of a tile. The first two can host; the rest lie anywhere, also across the edge."""
    wanted = 2 + rng.poisson(slide.cells)
    cells: list[RedCell] = []
    for attempt in range(8 * wanted):
        margin = HOST_MARGIN_PX + 4 if len(cells) < 2 else -slide.cell_radius_px * 0.7
        x, y = rng.uniform(margin, TILE_PX - margin, 2)
        cell = _cell(slide, rng, float(x), float(y))
        # Where the field is full, cells are squeezed over each other rather than left out.
        gap = slide.spread * (1 - 0.3 * attempt / (8 * wanted))
        if all(_apart(cell, other) >= gap for other in cells):
            cells.append(cell)
        if len(cells) == wanted:
            break
    return cells


def _apart(a: RedCell, b: RedCell) -> float:
    return float(np.hypot(a.x - b.x, a.y - b.y)) / (a.radius_px + b.radius_px)


def _cell(slide: Slide, rng: np.random.Generator, x: float, y: float) -> RedCell:
    heights: tuple[tuple[int, float], ...] = ((2, slide.ovality), (3, 0.03), (4, 0.02), (5, 0.012))
    oddity = rng.random()
    if oddity < 0.04:
        heights += ((int(rng.integers(11, 17)), 0.035),)  # crenated
    elif oddity < 0.08:
        heights += ((1, 0.12), (2, 0.12), (3, 0.06))  # teardrop or bent
    return RedCell(
        x=x,
        y=y,
        radius_px=slide.cell_radius_px * float(rng.normal(1, 0.08)),
        lobes=random_lobes(rng, heights),
        pallor=float(np.clip(slide.pallor * rng.normal(1, 0.35), 0, 0.9)),
        pallor_width=float(rng.uniform(0.3, 0.55)),
        thickness=float(rng.normal(1, 0.09)),
    )


def draw_film(canvas: Canvas, slide: Slide, rng: np.random.Generator) -> None:
    """Dried plasma between the cells: a faint, uneven tint."""
    coarse = rng.normal(1, 0.6, (4, 4)).clip(0).astype(np.float32)
    grid = np.linspace(0, 3, TILE_PX, dtype=np.float32)
    across = np.stack([np.interp(grid, range(4), row) for row in coarse])
    cloud = np.stack([np.interp(grid, range(4), column) for column in across.T], axis=1).astype(np.float32)
    whole = canvas.patch(TILE_PX / 2, TILE_PX / 2, TILE_PX)
    whole.absorb(cloud * np.float32(slide.film), (1.0, 1.6, 1.2))


def draw_cell(canvas: Canvas, slide: Slide, cell: RedCell) -> None:
    """Biconcave: thinner in the middle, the rim stained a little differently."""
    patch = cell.patch(canvas)
    outline = lobed(patch.angle, cell.lobes)
    depth = patch.radius / (outline * np.float32(cell.radius_px))
    inside = cell.mask(patch)
    middle = np.exp(-np.power(depth / np.float32(cell.pallor_width), 3))
    dome = 1 - np.float32(0.12) * np.square(depth)
    thickness = (dome - np.float32(cell.pallor) * middle + np.float32(0.03) * patch.grain) * inside
    # Cells that touch give way and thin out, so an overlap is darker than a cell but not twice as dark.
    below = np.clip(patch.density[..., 1] / np.float32(slide.red_cell[1]), 0, 1)
    yielding = 1 - np.float32(0.6) * below
    patch.absorb(thickness * yielding * np.float32(cell.thickness), slide.red_cell)
    patch.absorb(bump(depth - 0.93, 0.10) * inside * yielding * np.float32(slide.rim_strength), slide.rim)
