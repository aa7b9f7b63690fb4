"""Light through the slide, the lens, the sensor and the JPEG file."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_convert.synthetic.canvas import TILE_PX, Canvas, Field
from edge_convert.synthetic.slide import Slide


def expose(canvas: Canvas, slide: Slide, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The picture the camera sees. Returns (TILE_PX, TILE_PX, 3) uint8 RGB."""
    light: Field = np.exp(-canvas.density) * _illumination(slide, rng)
    defocus_px = slide.defocus_px * float(rng.lognormal(0, 0.18))
    light = cast(Field, cv2.GaussianBlur(light, (0, 0), defocus_px))
    grain = rng.standard_normal(light.shape, np.float32)
    # Photons: the noise grows with the square root of the light.
    light = light + grain * np.sqrt(np.maximum(light, 0.02)) * np.float32(slide.noise)
    signal = np.power(np.clip(light, 0, 1), np.float32(slide.gamma))
    return cast(NDArray[np.uint8], (signal * 255 + 0.5).astype(np.uint8))


def _illumination(slide: Slide, rng: np.random.Generator) -> Field:
    """(TILE_PX, TILE_PX, 3) float32: bare glass. A tile is a part of the field, off its centre."""
    axis = np.linspace(-1, 1, TILE_PX, dtype=np.float32)
    centre_x, centre_y = rng.uniform(-1, 1, 2)
    fall = np.square(axis - np.float32(centre_x))[None, :] + np.square(axis - np.float32(centre_y))[:, None]
    shade = 1 - np.float32(slide.vignette) / 4 * fall
    shade = shade + np.float32(slide.gradient_xy[0]) * axis[None, :] + np.float32(slide.gradient_xy[1]) * axis[:, None]
    exposure = rng.normal(1, 0.02)
    return cast(Field, shade[..., None] * (np.array(slide.light) * exposure).astype(np.float32))


def encode_jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """picture: (rows, columns, 3) uint8 RGB. Returns the bytes of the file."""
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
