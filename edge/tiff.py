"""The three facts of a TIFF file that OpenCV does not tell: page count, inverted grey, and 16-bit or not.

TIFF 6.0 (Adobe 1992), section 2. Only headers and tags are read; anything odd counts as damaged.
"""

from __future__ import annotations

import struct

from edge.frozen import dataclass

SUBFILE_TYPE, PHOTOMETRIC = 254, 262
WHITE_IS_ZERO = 0
MAX_PAGES = 64


@dataclass(frozen=True, kw_only=True)
class TiffFacts:
    """pages: full-size ones; reduced copies (thumbnails) are not counted. white_is_zero: of the first page."""

    pages: int
    white_is_zero: bool


def read_facts(data: bytes) -> TiffFacts | None:
    """The facts of a TIFF file's bytes, None where its directories cannot be followed."""
    order = "<" if data[:2] == b"II" else ">"
    pages, inverted = 0, False
    seen: set[int] = set()
    try:
        (place,) = struct.unpack_from(f"{order}I", data, 4)
        while place:
            if place in seen or len(seen) == MAX_PAGES:
                return None
            seen.add(place)
            tags, place = _directory(data, place, order)
            if len(seen) == 1:
                inverted = tags.get(PHOTOMETRIC) == WHITE_IS_ZERO
            pages += not tags.get(SUBFILE_TYPE, 0) & 1
    except struct.error:
        return None
    return TiffFacts(pages=max(pages, 1), white_is_zero=inverted)


def _directory(data: bytes, place: int, order: str) -> tuple[dict[int, int], int]:
    """The two tags of one directory that matter here, and the place of the next directory."""
    (count,) = struct.unpack_from(f"{order}H", data, place)
    tags = {}
    for index in range(count):
        tag, kind, _, value = struct.unpack_from(f"{order}HHI4s", data, place + 2 + 12 * index)
        if tag in (SUBFILE_TYPE, PHOTOMETRIC):
            # A SHORT (kind 3) lies in the first half of the value's four bytes.
            (tags[tag],) = struct.unpack(f"{order}H" if kind == 3 else f"{order}I", value[: 2 if kind == 3 else 4])
    (following,) = struct.unpack_from(f"{order}I", data, place + 2 + 12 * count)
    return tags, following
