"""A picture beside its nearest known cases, to be looked at: one row a picture."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.frozen import dataclass
from edge_runtime import lettering
from edge_runtime.similar import KnownCases, Neighbours

TILE_PX = 168
FRAME_PX = 6
LINE_PX = 17
TEXT_PX = 3 * LINE_PX + 10
GAP_PX = 10
FINDING, OTHER, PAPER = (196, 60, 40), (150, 150, 150), (255, 255, 255)
MOST_ROWS = 100
LETTERS = 0.42


@dataclass(frozen=True, kw_only=True)
class Row:
    """One screened picture. tensor: (side, side, 3 or 1) uint8, what the network saw. words: up to three lines."""

    tensor: NDArray[np.uint8] = field(repr=False)
    words: tuple[str, ...]
    neighbours: Neighbours


def draw_sheet(
    rows: Sequence[Row], known: KnownCases, *, positive: Collection[str], k: int, caption: str
) -> NDArray[np.uint8]:
    """The sheet, (height, width, 3) uint8 RGB. Left the picture, then its k nearest cases, nearest first.

    A frame is red where the case's label is one of the `positive`, else grey. known: loaded with thumbnails.
    """
    width = GAP_PX + (k + 1) * (TILE_PX + GAP_PX) + GAP_PX
    strips = [_strip(row, known, positive, width) for row in rows]
    foot = np.full((LINE_PX + 8, width, 3), PAPER, np.uint8)
    _write(foot, caption, GAP_PX, LINE_PX, width - 2 * GAP_PX)
    return np.concatenate([*strips, foot])


def _strip(row: Row, known: KnownCases, positive: Collection[str], width: int) -> NDArray[np.uint8]:
    strip = np.full((TILE_PX + TEXT_PX + GAP_PX, width, 3), PAPER, np.uint8)
    _place(strip, GAP_PX, _tile(row.tensor), lettering.INK, row.words)
    for neighbour in row.neighbours.found:
        data = known.thumbnail(neighbour)
        mine = " (this site)" if neighbour.source == "site" else ""
        words = (f"{neighbour.rank}. {neighbour.label}", f"distance {neighbour.distance:.3g}", f"{neighbour.id}{mine}")
        left = 2 * GAP_PX + neighbour.rank * (TILE_PX + GAP_PX)
        _place(strip, left, _decoded(data), FINDING if neighbour.label in positive else OTHER, words)
    return strip


def _place(
    strip: NDArray[np.uint8],
    left: int,
    tile: NDArray[np.uint8] | None,
    frame: tuple[int, int, int],
    words: Sequence[str],
) -> None:
    """A tile in its frame with its words below it; where there is no picture of a case, words that say so."""
    cell = strip[GAP_PX : GAP_PX + TILE_PX, left : left + TILE_PX]
    cell[:] = frame
    inner = cell[FRAME_PX:-FRAME_PX, FRAME_PX:-FRAME_PX]
    if tile is None:
        inner[:] = PAPER
        _write(strip, "no picture kept", left + 20, GAP_PX + TILE_PX // 2, TILE_PX - 40)
    else:
        inner[:] = tile
    for line, text in enumerate(words[:3], start=1):
        _write(strip, text, left, GAP_PX + TILE_PX + line * LINE_PX, TILE_PX)


def _tile(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as large as a tile, RGB."""
    side = TILE_PX - 2 * FRAME_PX
    how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    sized = np.asarray(cv2.resize(picture, (side, side), interpolation=how), np.uint8)
    return np.asarray(cv2.cvtColor(sized, cv2.COLOR_GRAY2RGB), np.uint8) if sized.ndim == 2 else sized


def _decoded(data: bytes | None) -> NDArray[np.uint8] | None:
    """A thumbnail as a tile; None where there is none, or where it cannot be read."""
    pixels = None if data is None else cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return None if pixels is None else _tile(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), np.uint8))


def _write(canvas: NDArray[np.uint8], text: str, left: int, base: int, width: int) -> None:
    lettering.write(canvas, lettering.cut(text, width, LETTERS), (left, base), LETTERS)
