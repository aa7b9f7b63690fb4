"""Lines of text drawn into a picture, words apart."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.names import printable

INK = (20, 20, 20)
FONT = cv2.FONT_HERSHEY_SIMPLEX
SPACE_PX = 17
"""Between words, at size 1 (capitals are about 22 px high). OpenCV 5 has half of that: words ran together."""

SMALLEST = 0.05


def write(canvas: NDArray[np.uint8], text: str, origin: tuple[int, int], size: float) -> None:
    """Write a line. canvas: (rows, columns, 3) uint8, written into. origin: left end of the line's base, x and y.

    size: of the letters, in OpenCV's unit. What its strokes do not have is a question mark, line breaks among them.
    """
    x, y = float(origin[0]), origin[1]
    for word in _words(text):
        cv2.putText(canvas, word, (round(x), y), FONT, size, INK, _thickness(size), cv2.LINE_AA)
        x += _width(word, size) + SPACE_PX * size


def width(text: str, size: float) -> float:
    """How many pixels a line takes."""
    words = _words(text)
    return sum(_width(word, size) for word in words) + SPACE_PX * size * (len(words) - 1)


def cut(text: str, room: int, size: float) -> str:
    """A line that takes no more than `room` pixels, without its beginning where it must: a path's end tells more."""
    while len(text) > 3 and width(text, size) > room:
        text = ".." + text[3:]
    return text


def largest_size(text: str, room: int, *, most: float) -> float:
    """The size, at most `most`, at which a line takes no more than `room` pixels."""
    size = most * min(1.0, room / max(1.0, width(text, most)))
    # Letters come in whole pixels: a line of half the size is not quite half as long.
    while width(text, size) > room and size > SMALLEST:
        size *= 0.98
    return size


def _words(text: str) -> list[str]:
    # OpenCV's built-in strokes know ASCII only. Of two spaces between words each counts: an empty word is between them.
    return printable(text).encode("ascii", "replace").decode().split(" ")


def _width(word: str, size: float) -> int:
    return int(cv2.getTextSize(word, FONT, size, _thickness(size))[0][0])


def _thickness(size: float) -> int:
    return max(1, round(size * 2))
