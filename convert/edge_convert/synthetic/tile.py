"""One tile: its place in the smear decides everything about it.

A tile's randomness comes from (seed, slide, tile) alone, so it is the same however many are rendered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.errors import DataError
from edge_convert.synthetic.camera import encode_jpeg, expose
from edge_convert.synthetic.canvas import Canvas
from edge_convert.synthetic.lookalikes import LOOK_ALIKE_WEIGHTS, STAND_IN_WEIGHTS, draw_look_alike
from edge_convert.synthetic.parasites import STAGE_WEIGHTS, Box, draw_infected_cell
from edge_convert.synthetic.slide import Slide, prepare_slide
from edge_convert.synthetic.smear import RedCell, draw_cell, draw_film, scatter_cells

PREVALENCE = 1 / 6  # of tiles with a parasite
SECOND_PARASITE = 0.12  # of tiles with one
STAND_IN = 0.92  # of tiles without one: see STAND_IN_WEIGHTS; the rest may be perfectly clean
FEWEST_TILES_PER_SLIDE = 6


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rendered tile and the truth about it.

    jpeg: the file. stages and boxes_xywh: one for each parasite, boxes in pixels of the tile around the
    infected cell. look_alikes: what else is on it.
    """

    slide: int
    tile: int
    jpeg: bytes
    stages: tuple[str, ...]
    boxes_xywh: tuple[Box, ...]
    look_alikes: tuple[str, ...]

    @property
    def label(self) -> str:
        """`parasite` or `no_parasite`."""
        return "parasite" if self.stages else "no_parasite"


def generator(seed: int, *place: int) -> np.random.Generator:
    """The random numbers of one place: (slide,) or (slide, tile)."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


def infected_tiles(seed: int, slide: int, tiles_per_slide: int) -> frozenset[int]:
    """Which tiles of a slide hold a parasite: at least one, never all, one in six on average.

    Every slide is an infected patient's: a slide's stain or light must not tell the label.
    """
    if tiles_per_slide < FEWEST_TILES_PER_SLIDE:
        raise DataError(
            f"{tiles_per_slide} tiles a slide are too few to hold both labels at a prevalence of one in six",
            remedy=f"ask for {FEWEST_TILES_PER_SLIDE} tiles a slide or more",
        )
    rng = generator(seed, slide, 0)
    others = tiles_per_slide - 2
    count = 1 + rng.binomial(others, (tiles_per_slide * PREVALENCE - 1) / others)
    return frozenset(int(tile) for tile in rng.permutation(tiles_per_slide)[:count])


def render_tile(seed: int, slide: int, tile: int, *, infected: bool) -> Tile:
    """Draw one tile."""
    prepared = prepare_slide(generator(seed, slide))
    rng = generator(seed, slide, 1 + tile)
    cells = scatter_cells(prepared, rng)
    parasites = _pick(STAGE_WEIGHTS, 1 + int(rng.random() < SECOND_PARASITE), rng) if infected else ()
    infections = list(zip(parasites, (cell for cell in cells if cell.can_host)))  # noqa: B905, room for one may do
    hosts = [cell for _, cell in infections]
    healthy = [cell for cell in cells if cell not in hosts]
    soiling = _soil(prepared, healthy, rng, infected=infected)

    canvas = Canvas.blank(rng)
    draw_film(canvas, prepared, rng)
    for cell in healthy:
        draw_cell(canvas, prepared, cell)
    for kind, cell in soiling:
        draw_look_alike(canvas, prepared, cell, kind, rng)
    # Last, so that nothing wipes a parasite away.
    boxes = [draw_infected_cell(canvas, prepared, cell, stage, rng) for stage, cell in infections]
    return Tile(
        slide=slide,
        tile=tile,
        jpeg=encode_jpeg(expose(canvas, prepared, rng), prepared.jpeg_quality),
        stages=tuple(stage for stage, _ in infections),
        boxes_xywh=tuple(boxes),
        look_alikes=tuple(kind for kind, _ in soiling),
    )


def _soil(
    slide: Slide, healthy: list[RedCell], rng: np.random.Generator, *, infected: bool
) -> list[tuple[str, RedCell]]:
    """Look-alikes and the healthy cells that they lie at."""
    if not healthy:
        return []
    kinds = _pick(LOOK_ALIKE_WEIGHTS, int(rng.poisson(slide.soiling)), rng)
    soiling = [(kind, healthy[rng.integers(len(healthy))]) for kind in kinds]
    if not infected and rng.random() < STAND_IN:
        soiling += [(kind, healthy[0]) for kind in _pick(STAND_IN_WEIGHTS, 1, rng)]
    return soiling


def _pick(weights: dict[str, float], count: int, rng: np.random.Generator) -> tuple[str, ...]:
    shares = np.array(list(weights.values()))
    return tuple(str(name) for name in rng.choice(list(weights), count, p=shares / shares.sum()))
