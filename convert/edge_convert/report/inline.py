"""Figures and pictures as text inside the page: SVG that follows the page's colours, JPEG as data URIs."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

MAX_SIDE_PX = 460
MAX_JPEG_BYTES = 36_000
JPEG_QUALITIES = (85, 75, 65, 50, 35, 20)

# Name -> colour by day, colour by night. The data colours are of Okabe and Ito 2008, which the colour-blind can tell
# apart. Plots are drawn in the colours by day; in the page each becomes the CSS variable of its name.
PALETTE = {
    "paper": ("#ffffff", "#14181d"),
    "ink": ("#1f2328", "#e3e6ea"),
    "quiet": ("#59616b", "#a3abb5"),
    "line": ("#d7dbe0", "#3a4149"),
    "blue": ("#0072b2", "#56b4e9"),
    "vermillion": ("#d55e00", "#f28a3c"),
    "green": ("#00795a", "#2fc49a"),
    "band": ("#c9dfee", "#1f4258"),
}


def day(name: str) -> str:
    """A colour of the palette as plots are drawn."""
    return PALETTE[name][0]


def css_variables(*, night: bool) -> Markup:
    """The palette as CSS custom properties."""
    return Markup("".join(f"--{name}: {pair[night]}; " for name, pair in PALETTE.items()))


def svg(figure: Any, name: str) -> Markup:
    """A matplotlib figure as an `<svg>` element. name: unique in the page, the prefix of the element's ids."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        # Without a date the same numbers give the same bytes.
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # matplotlib's rules name every element, which in a page would be the page's too; style.css.j2 has them.
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1)
    # Two figures on a page share matplotlib's ids; a clip path of the one would cut the other.
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    for colour, (by_day, _) in PALETTE.items():
        text = re.sub(by_day, f"var(--{colour})", text, flags=re.IGNORECASE)
    return Markup(text)


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """A picture inside the page: its data URI and its size in pixels."""

    uri: str
    width: int
    height: int


def page_scale(picture: NDArray[np.uint8]) -> float:
    """How much smaller a picture is made for the page, at most 1. picture: (rows, columns, 3)."""
    rows, columns = picture.shape[:2]
    return min(1.0, MAX_SIDE_PX / int(rows), 2 * MAX_SIDE_PX / int(columns))


def jpeg(picture: NDArray[np.uint8], scale: float) -> Jpeg:
    """A picture for the page. picture: (rows, columns, 3) RGB.

    The quality falls until the picture is small enough to keep the whole report light.
    """
    if scale != 1:
        size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        picture = np.asarray(cv2.resize(picture, size, interpolation=how), np.uint8)
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    data = b""
    for quality in JPEG_QUALITIES:
        data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(data) <= MAX_JPEG_BYTES:
            break
    uri = "data:image/jpeg;base64," + base64.b64encode(data).decode()
    return Jpeg(uri=uri, width=picture.shape[1], height=picture.shape[0])
