"""A line of text on a picture, in OpenCV's built-in strokes."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.dataset import printable

FONT = cv2.FONT_HERSHEY_SIMPLEX
INK = (20, 20, 20)


def write_line(
    canvas: NDArray[np.uint8], text: str, origin: tuple[int, int], size: float, *, width_px: int | None = None
) -> None:
    """Write one line onto `canvas`, (rows, columns, 3) uint8 RGB. origin: x, y of its base line's left end, in pixels.

    size: of the letters, in OpenCV's unit (1 is about 22 pixels high). width_px: a longer line is cut to it at its
    beginning, since a path's end tells more. The strokes know ASCII only: anything else becomes a question mark, and
    so do line breaks and other control characters.
    """
    plain = printable(text).encode("ascii", "replace").decode()
    thickness = max(1, round(size * 2))
    while width_px is not None and len(plain) > 3 and _width(plain, size, thickness) > width_px:
        plain = ".." + plain[3:]
    cv2.putText(canvas, plain, origin, FONT, size, INK, thickness, cv2.LINE_AA)


def _width(text: str, size: float, thickness: int) -> int:
    return cv2.getTextSize(text, FONT, size, thickness)[0][0]
