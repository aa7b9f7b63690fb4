"""What is purple, round or grainy on a smear and is not a parasite.

Each is drawn in the stains that the parasites are drawn in, on or beside a red cell, in positive and negative
tiles alike, so that finding stain is not enough.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_convert.synthetic.canvas import Canvas, Patch, Stain, blob, bump, coverage, disc, random_lobes
from edge_convert.synthetic.slide import Slide
from edge_convert.synthetic.smear import RedCell

# How often each turns up. White cells are one to several hundred red ones.
LOOK_ALIKE_WEIGHTS = {
    "platelet": 0.27,
    "platelet_clump": 0.08,
    "precipitate": 0.17,
    "inclusion_dot": 0.06,
    "stippled_cell": 0.13,
    "double_contour": 0.09,
    "bubble": 0.05,
    "dirt": 0.07,
    "white_cell": 0.03,
}

# Where a positive tile has its parasite, in the middle, a negative one has one of these: as dark, as blue, as
# large. Otherwise the amount of stain tells the label.
STAND_IN_WEIGHTS = {
    "platelet": 0.22,
    "platelet_clump": 0.24,
    "precipitate": 0.20,
    "inclusion_dot": 0.06,
    "stippled_cell": 0.16,
    "double_contour": 0.04,
    "white_cell": 0.08,
}


def draw_look_alike(canvas: Canvas, slide: Slide, cell: RedCell, kind: str, rng: np.random.Generator) -> None:
    """Draw one look-alike on or beside this cell. kind: a key of LOOK_ALIKE_WEIGHTS."""
    DRAWERS[kind](canvas, slide, cell, rng)


_REFRACTED: Stain = (0.62, 0.62, 0.55)  # light bent out of the lens: no stain, almost grey


def _near(canvas: Canvas, cell: RedCell, wander: float, reach_px: float, rng: np.random.Generator) -> Patch:
    """A patch within `wander` cell radii of the cell's centre."""
    distance = cell.radius_px * wander * np.sqrt(rng.random())
    direction = rng.uniform(0, 2 * np.pi)
    x, y = cell.x + distance * np.cos(direction), cell.y + distance * np.sin(direction)
    return canvas.patch(float(x), float(y), reach_px)


def _platelet(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """A grainy purple body of an eighth to a third of a cell; on a cell it pushes a pale halo around it."""
    radius = cell.radius_px * float(rng.uniform(0.16, 0.38))
    _draw_platelet(_near(canvas, cell, 1.25, radius * 2 + 6, rng), slide, radius, rng)


def _platelet_clump(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """Three to nine platelets together: at low focus a schizont's silhouette."""
    centre = _near(canvas, cell, 1.2, 1, rng)
    x, y = _place_of(centre, cell)
    for _ in range(int(rng.integers(3, 10))):
        dx, dy = rng.normal(0, cell.radius_px * 0.32, 2)
        radius = cell.radius_px * float(rng.uniform(0.12, 0.24))
        _draw_platelet(canvas.patch(x + float(dx), y + float(dy), radius * 2 + 6), slide, radius, rng)


def _place_of(patch: Patch, cell: RedCell) -> tuple[float, float]:
    if patch.dx.size == 0:
        return cell.x, cell.y
    return patch.origin_xy[0] - float(patch.dx[0, 0]), patch.origin_xy[1] - float(patch.dy[0, 0])


def _draw_platelet(patch: Patch, slide: Slide, radius_px: float, rng: np.random.Generator) -> None:
    body = blob(patch, radius_px, random_lobes(rng, ((2, 0.15), (3, 0.10), (5, 0.07))), 2.5)
    halo = coverage(patch.radius - radius_px * 1.35, 3.0)
    patch.clear(halo * np.float32(rng.uniform(0.1, 0.5)))
    grains = np.clip(0.55 + np.float32(0.28) * patch.grain, 0.1, 1.2) * body
    patch.absorb(grains * np.float32(rng.uniform(0.7, 1.4)), slide.chromatin)
    patch.absorb(body * np.float32(rng.uniform(0.1, 0.5)), slide.cytoplasm)


def _precipitate(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """Grains of dried stain in clusters, over cells and glass alike."""
    spread = cell.radius_px * float(rng.uniform(0.15, 0.9))
    patch = _near(canvas, cell, 1.3, spread * 3, rng)
    strength = np.float32(rng.uniform(0.8, 1.6))
    softness = float(rng.uniform(1.2, 3.5))  # some float above the plane of focus
    for x, y in rng.normal(0, spread, (int(rng.integers(3, 26)), 2)):
        grain = disc(patch, x, y, cell.radius_px * rng.uniform(0.02, 0.075), softness)
        patch.absorb(grain * strength, slide.chromatin)


def _inclusion_dot(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """A Howell-Jolly body: chromatin in a red cell, smooth and alone, without cytoplasm."""
    patch = _near(canvas, cell, 0.6, cell.radius_px * 0.4, rng)
    dot = disc(patch, 0, 0, cell.radius_px * rng.uniform(0.06, 0.14), 1.6)
    patch.absorb(dot * np.float32(rng.uniform(0.9, 1.5)), slide.chromatin)


def _stippled_cell(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """A young red cell: bluish throughout, often with basophilic stippling; a gametocyte's colours."""
    patch = cell.patch(canvas)
    mask = cell.mask(patch)
    patch.absorb(mask * np.float32(rng.uniform(0.2, 0.6)), slide.cytoplasm)
    if rng.random() < 0.7:
        dots = np.clip(patch.grain - np.float32(rng.uniform(0.6, 1.4)), 0, 2) * mask
        patch.absorb(dots * np.float32(rng.uniform(0.4, 0.9)), slide.chromatin)


def _double_contour(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """A drying artefact: a bright refractile ring with a dark, stained edge inside the cell."""
    patch = _near(canvas, cell, 0.45, cell.radius_px, rng)
    radius = cell.radius_px * float(rng.uniform(0.16, 0.42))
    along, across = patch.turned(rng.uniform(0, np.pi))
    away = np.hypot(along, across * np.float32(rng.uniform(1.0, 1.5)))
    edge = bump(away - radius, rng.uniform(1.2, 2.2)) * np.float32(rng.uniform(0.3, 0.8))
    patch.absorb(edge, _REFRACTED)
    patch.absorb(edge * np.float32(0.3), slide.cytoplasm)
    patch.clear(coverage(away - radius + 2, 2.5) * np.float32(rng.uniform(0.15, 0.6)))


def _bubble(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """Air or water under the oil: dark outline, bright inside, on no particular cell."""
    radius = cell.radius_px * float(rng.uniform(0.25, 0.9))
    patch = _near(canvas, cell, 1.5, radius * 1.5 + 4, rng)
    patch.clear(disc(patch, 0, 0, radius, 2.0) * np.float32(rng.uniform(0.3, 0.8)))
    edge = bump(patch.radius - radius, rng.uniform(1.2, 2.5))
    patch.absorb(edge * np.float32(rng.uniform(0.5, 1.2)), _REFRACTED)
    inner = bump(patch.radius - radius * 0.75, radius * 0.12)
    patch.absorb(inner * np.float32(rng.uniform(0.0, 0.4)), slide.chromatin)


def _dirt(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """A speck or a fibre, brown to black or stained."""
    patch = _near(canvas, cell, 1.5, cell.radius_px * 1.2, rng)
    along, across = patch.turned(rng.uniform(0, np.pi))
    length = cell.radius_px * float(rng.uniform(0.1, 0.9))
    bent = across + np.float32(rng.normal(0, 0.3) / length) * np.square(along)
    reach = np.hypot(along / np.float32(length), bent / np.float32(rng.uniform(1.2, 4.0)))
    stain = slide.pigment if rng.random() < 0.5 else slide.chromatin
    patch.absorb(coverage((reach - 1) * 2, 1.5) * np.float32(rng.uniform(0.6, 1.6)), stain)


def _white_cell(canvas: Canvas, slide: Slide, cell: RedCell, rng: np.random.Generator) -> None:
    """A neutrophil or a lymphocyte in the red cell's place: a nucleus of one to four lobes."""
    radius = cell.radius_px * float(rng.uniform(1.15, 1.5))
    patch = canvas.patch(cell.x, cell.y, radius * 1.4)
    body = blob(patch, radius, random_lobes(rng, ((2, 0.05), (3, 0.04))), 3.0)
    patch.clear(body)
    patch.absorb(body * (0.3 + np.float32(0.1) * patch.grain), slide.cytoplasm)
    lobes = int(rng.integers(1, 5))
    start = rng.uniform(0, 2 * np.pi)
    nucleus = np.zeros_like(body)
    for lobe in range(lobes):
        turn = start + lobe * 1.25
        away = 0.0 if lobes == 1 else radius * 0.42
        size = radius * (0.72 if lobes == 1 else rng.uniform(0.28, 0.38))
        nucleus = np.maximum(nucleus, disc(patch, away * np.cos(turn), away * np.sin(turn), size, 3.0))
    patch.absorb(nucleus * (1.0 + np.float32(0.12) * patch.grain), slide.chromatin)


DRAWERS: dict[str, Callable[[Canvas, Slide, RedCell, np.random.Generator], None]] = {
    "platelet": _platelet,
    "platelet_clump": _platelet_clump,
    "precipitate": _precipitate,
    "inclusion_dot": _inclusion_dot,
    "stippled_cell": _stippled_cell,
    "double_contour": _double_contour,
    "bubble": _bubble,
    "dirt": _dirt,
    "white_cell": _white_cell,
}
