"""Malaria parasites in a red cell: what a microscopist looks for, stage by stage.

Forms after the WHO bench aids for malaria microscopy: chromatin is a dark purple-red body, cytoplasm is blue,
an unstained vacuole lies inside a ring, pigment is golden brown from the trophozoite on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from edge_convert.synthetic.canvas import (
    TILE_PX,
    Canvas,
    Field,
    Patch,
    blob,
    bump,
    coverage,
    disc,
    lobed,
    random_lobes,
)
from edge_convert.synthetic.slide import Slide
from edge_convert.synthetic.smear import RedCell, draw_cell

Box = tuple[int, int, int, int]

# Rings are what circulates; the rest in the proportions of a mixed set of teaching slides.
STAGE_WEIGHTS = {"ring": 0.40, "trophozoite": 0.24, "schizont": 0.16, "gametocyte": 0.20}
BOX_MARGIN_PX = 2


def swell(cell: RedCell, stage: str, rng: np.random.Generator) -> RedCell:
    """The red cell as the parasite has changed it: larger and flatter in the later stages."""
    if stage == "ring":
        return cell
    return replace(
        cell,
        radius_px=cell.radius_px * float(rng.uniform(1.0, 1.18)),
        pallor=cell.pallor * 0.4,
        thickness=cell.thickness * float(rng.uniform(0.75, 1.0)),
    )


def draw_infected_cell(canvas: Canvas, slide: Slide, cell: RedCell, stage: str, rng: np.random.Generator) -> Box:
    """Draw the cell with a parasite of this stage. Returns the box around both, in pixels of the tile."""
    host = swell(cell, stage, rng)
    draw_cell(canvas, slide, host)
    # Rings lie anywhere in the cell, also against its edge; the others fill it from near the middle.
    wander = host.radius_px * (0.58 if stage == "ring" else 0.2)
    distance, direction = wander * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi)
    patch = canvas.patch(
        host.x + float(distance * np.cos(direction)), host.y + float(distance * np.sin(direction)), host.radius_px * 1.6
    )
    body = DRAWERS[stage](patch, _faded(slide, float(rng.uniform(0.8, 1.15))), host.radius_px, rng)
    cell_patch = host.patch(canvas)
    return _box_around((cell_patch, host.mask(cell_patch)), (patch, body))


def _faded(slide: Slide, strength: float) -> Slide:
    """The slide's stains as this one parasite has taken them up."""
    chromatin, cytoplasm = (
        (r * strength, g * strength, b * strength) for r, g, b in (slide.chromatin, slide.cytoplasm)
    )
    return replace(slide, chromatin=chromatin, cytoplasm=cytoplasm)


def _box_around(*parts: tuple[Patch, Field]) -> Box:
    lows, highs = [], []
    for patch, mask in parts:
        rows, columns = np.nonzero(mask > 0.5)
        lows.append((columns.min() + patch.origin_xy[0], rows.min() + patch.origin_xy[1]))
        highs.append((columns.max() + patch.origin_xy[0] + 1, rows.max() + patch.origin_xy[1] + 1))
    left, top = (max(0, int(low) - BOX_MARGIN_PX) for low in np.min(lows, axis=0))
    right, bottom = (min(TILE_PX, int(high) + BOX_MARGIN_PX) for high in np.max(highs, axis=0))
    return left, top, right - left, bottom - top


def _ring(patch: Patch, slide: Slide, cell_px: float, rng: np.random.Generator) -> Field:
    """A thin blue ring around a vacuole with one or two chromatin dots on it."""
    radius = cell_px * float(rng.uniform(0.26, 0.40))
    along, across = patch.turned(rng.uniform(0, np.pi))
    outline = lobed(patch.angle, random_lobes(rng, ((2, 0.08), (3, 0.10), (4, 0.06))))
    away = np.hypot(along, across * np.float32(rng.uniform(1.0, 1.35))) / outline
    seat = rng.uniform(0, 2 * np.pi)
    # Thickest opposite the chromatin, as a signet ring from above; sometimes open there.
    heavy = seat + np.pi + rng.normal(0, 0.7)
    weight = np.clip(rng.uniform(0.6, 1.0) + 0.4 * np.cos(patch.angle - np.float32(heavy)), 0, 1.4)
    patch.clear(disc(patch, 0, 0, radius * 0.8, 3.0) * np.float32(0.2))
    patch.absorb(bump(away - radius, cell_px * rng.uniform(0.065, 0.11)) * weight.astype(np.float32), slide.cytoplasm)
    for turn in (0.0, float(rng.uniform(0.6, 1.6)))[: 1 + int(rng.random() < 0.3)]:
        x, y = radius * np.cos(seat + turn), radius * np.sin(seat + turn)
        patch.absorb(disc(patch, x, y, cell_px * rng.uniform(0.085, 0.125)), slide.chromatin)
    return disc(patch, 0, 0, radius)


def _trophozoite(patch: Patch, slide: Slide, cell_px: float, rng: np.random.Generator) -> Field:
    """An uneven blue body with a vacuole, one chromatin mass and some pigment."""
    radius = cell_px * float(rng.uniform(0.42, 0.62))
    body = blob(patch, radius, random_lobes(rng, ((2, 0.14), (3, 0.14), (4, 0.10), (5, 0.08))), 3.0)
    hole = rng.uniform(0, 2 * np.pi)
    vacuole = disc(patch, 0.25 * radius * np.cos(hole), 0.25 * radius * np.sin(hole), radius * 0.36, 3.0)
    substance = body * (1 - 0.8 * vacuole) * (1 + np.float32(0.18) * patch.grain)
    patch.absorb(substance * np.float32(rng.uniform(0.8, 1.2)), slide.cytoplasm)
    x, y = -0.62 * radius * np.cos(hole), -0.62 * radius * np.sin(hole)
    patch.absorb(disc(patch, x, y, cell_px * rng.uniform(0.11, 0.16), 2.0), slide.chromatin)
    _draw_pigment(patch, slide, body, radius, int(rng.integers(2, 7)), rng)
    return body


def _schizont(patch: Patch, slide: Slide, cell_px: float, rng: np.random.Generator) -> Field:
    """Eight to twenty merozoites around a clump of pigment."""
    radius = cell_px * float(rng.uniform(0.68, 0.86))
    body = blob(patch, radius, random_lobes(rng, ((2, 0.04), (3, 0.04), (7, 0.02))), 3.0)
    patch.absorb(body * np.float32(0.45), slide.cytoplasm)
    count = int(rng.integers(8, 21))
    for index in range(count):
        # A sunflower spiral, shaken: evenly spread without a grid.
        away = radius * (0.25 + 0.62 * np.sqrt((index + 0.5) / count))
        turn = index * 2.39996 + rng.normal(0, 0.2)
        x, y = away * np.cos(turn), away * np.sin(turn)
        patch.absorb(disc(patch, x, y, cell_px * rng.uniform(0.075, 0.115), 1.8), slide.chromatin)
    patch.absorb(disc(patch, 0, 0, cell_px * rng.uniform(0.10, 0.18), 3.0), slide.pigment)
    return body


def _gametocyte(patch: Patch, slide: Slide, cell_px: float, rng: np.random.Generator) -> Field:
    """A crescent or a round body, pigment scattered about a diffuse nucleus."""
    if slide.crescents:
        along, across = patch.turned(rng.uniform(0, 2 * np.pi))
        length, width = cell_px * rng.uniform(1.05, 1.3), cell_px * rng.uniform(0.28, 0.38)
        bent = across - np.float32(rng.uniform(0.25, 0.5) / length) * np.square(along) + np.float32(0.15 * length)
        # (along / length)^4 rather than ^2: blunt ends, as a banana and not as a spindle.
        reach = np.sqrt(np.power(along / length, 4) + np.square(bent / width))
        body = coverage((reach - 1) * np.float32(width), 2.5)
        core = bump(along, length * 0.28) * body
    else:
        radius = cell_px * float(rng.uniform(0.76, 0.9))
        body = blob(patch, radius, random_lobes(rng, ((2, 0.05), (3, 0.03), (5, 0.02))), 3.0)
        seat = rng.uniform(0, 2 * np.pi)
        core = disc(patch, 0.35 * radius * np.cos(seat), 0.35 * radius * np.sin(seat), radius * 0.36, 5.0)
    texture = 1 + np.float32(0.22) * patch.grain
    patch.absorb(body * texture * np.float32(rng.uniform(0.7, 1.0)), slide.cytoplasm)
    patch.absorb(core * texture * np.float32(0.5), slide.chromatin)
    spread = cell_px * (0.4 if slide.crescents else 0.7)
    _draw_pigment(patch, slide, body, spread, int(rng.integers(8, 20)), rng)
    return body


def _draw_pigment(
    patch: Patch, slide: Slide, body: Field, spread_px: float, grains: int, rng: np.random.Generator
) -> None:
    for x, y in rng.normal(0, spread_px * 0.45, (grains, 2)):
        patch.absorb(disc(patch, x, y, rng.uniform(0.8, 1.6)) * body, slide.pigment)


DRAWERS: dict[str, Callable[[Patch, Slide, float, np.random.Generator], Field]] = {
    "ring": _ring,
    "trophozoite": _trophozoite,
    "schizont": _schizont,
    "gametocyte": _gametocyte,
}
