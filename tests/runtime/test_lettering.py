"""Letters in a picture: words stand apart and none is cut off, whatever OpenCV's font is."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_runtime import lettering
from edge_runtime.saliency import with_caption

CAPTION = "refer  p=0.156  threshold 0.126  SYNTHETIC"


def gaps(strip: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Widths of the blank columns between letters, the widest first."""
    inked = np.flatnonzero((strip < 200).any(axis=(0, 2)))
    steps = np.diff(inked) - 1
    return np.asarray(np.sort(steps[steps > 0])[::-1])


@pytest.mark.parametrize("columns", [280, 396, 555, 632, 1364])
def test_a_captions_words_stand_apart_and_none_is_cut_off(columns: int) -> None:
    shown = with_caption(np.zeros((200, columns, 3), np.uint8), CAPTION)
    strip = shown[200:]
    assert (strip[:, :3] == 255).all()
    assert (strip[:, -3:] == 255).all()
    found = gaps(strip)
    between_words, between_letters = found[: len(CAPTION.split()) - 1], found[len(CAPTION.split()) - 1]
    assert between_words.min() >= 1.5 * between_letters


def test_a_caption_fills_its_strip_so_that_it_can_be_read_when_made_smaller() -> None:
    strip = with_caption(np.zeros((512, 632, 3), np.uint8), CAPTION)[512:]
    inked = np.flatnonzero((strip < 200).any(axis=(0, 2)))
    assert np.ptp(inked) > 0.9 * 632


def test_a_lines_width_is_where_its_ink_ends() -> None:
    canvas = np.full((60, 900, 3), 255, np.uint8)
    lettering.write(canvas, "threshold 0.126", (0, 40), 1.0)
    last = int(np.flatnonzero((canvas < 200).any(axis=(0, 2))).max())
    assert abs(last - lettering.width("threshold 0.126", 1.0)) <= 4


def test_what_the_font_has_not_is_a_question_mark_and_no_error() -> None:
    assert lettering.width("é", 1.0) == lettering.width("?", 1.0)
