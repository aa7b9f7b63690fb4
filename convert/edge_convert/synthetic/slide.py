"""A slide: what all of its tiles share - stain, light, focus, how the blood was spread, the camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_convert.synthetic.canvas import Stain

# Optical density of a red cell in R, G, B as laboratories differ: much eosin, buffered pink, alkaline grey,
# and the salmon of an old stain. Read off published thin smears by eye; a slide is a mixture of them.
RED_CELL_STAINS = np.array([[0.36, 1.50, 0.52], [0.10, 0.66, 0.32], [0.27, 0.40, 0.28], [0.10, 0.42, 0.40]])
CHROMATIN = np.array([0.75, 1.30, 0.42])  # dark purple-red
CYTOPLASM = np.array([0.50, 0.40, 0.12])  # blue
PIGMENT = np.array([0.30, 0.50, 0.85])  # haemozoin, golden brown


@dataclass(frozen=True, kw_only=True)
class Slide:
    """One smear under one microscope.

    Stains are optical densities in R, G, B. crescents: whether gametocytes are bananas (P. falciparum) or
    round. spread: how far apart cells lie, 1 is touching. soiling: mean number of look-alikes on a tile.
    light: what bare glass sends to the camera, 0 to 1 in R, G, B. gradient_xy and vignette: relative loss
    of light across the field. defocus_px: standard deviation of the blur. noise: of the sensor at full
    light, 0 to 1. jpeg_quality: of the camera's files.
    """

    red_cell: Stain
    rim: Stain
    chromatin: Stain
    cytoplasm: Stain
    pigment: Stain
    crescents: bool
    cell_radius_px: float
    cells: float
    spread: float
    ovality: float
    pallor: float
    rim_strength: float
    soiling: float
    film: float
    light: Stain
    gradient_xy: tuple[float, float]
    vignette: float
    defocus_px: float
    noise: float
    gamma: float
    jpeg_quality: int


def prepare_slide(rng: np.random.Generator) -> Slide:
    """A slide by chance."""
    mixture = rng.dirichlet(np.full(len(RED_CELL_STAINS), 0.35))
    red_cell = mixture @ RED_CELL_STAINS * rng.uniform(0.75, 1.2) * rng.normal(1, 0.06, 3)
    giemsa = rng.uniform(0.75, 1.25)  # one bottle: nuclei, platelets and precipitate darken together
    light = rng.uniform(0.80, 0.97) * (1 - np.abs(rng.normal(0, 0.06, 3)))
    return Slide(
        red_cell=_stain(red_cell),
        rim=_stain(red_cell * rng.normal([0.8, 1.3, 1.0], 0.25)),
        chromatin=_stain(CHROMATIN * giemsa * rng.normal(1, 0.10, 3)),
        cytoplasm=_stain(CYTOPLASM * giemsa * rng.normal(1, 0.12, 3)),
        pigment=_stain(PIGMENT * rng.normal(1, 0.10, 3)),
        crescents=bool(rng.random() < 0.5),
        cell_radius_px=float(rng.uniform(31, 39)),
        cells=float(rng.uniform(4, 12)),
        spread=float(rng.uniform(0.75, 1.08)),
        ovality=float(rng.uniform(0.03, 0.10)),
        pallor=float(rng.beta(1.3, 1.6)) * 0.75,
        rim_strength=float(rng.uniform(0, 0.55)),
        soiling=float(rng.uniform(0.4, 1.6)),
        film=float(rng.uniform(0.005, 0.04)),
        light=_stain(light),
        gradient_xy=(float(rng.normal(0, 0.045)), float(rng.normal(0, 0.045))),
        vignette=float(rng.uniform(0, 0.14)),
        defocus_px=float(rng.uniform(0.6, 1.1)),
        noise=float(rng.uniform(0.004, 0.018)),
        gamma=float(rng.uniform(0.9, 1.15)),
        jpeg_quality=int(rng.integers(78, 93)),
    )


def _stain(densities: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Stain:
    red, green, blue = (max(0.01, float(value)) for value in densities)
    return red, green, blue
