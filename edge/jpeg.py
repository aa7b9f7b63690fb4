"""The size of a JPEG picture, read from its header before anything is decoded.

ITU-T T.81, annex B. Segments are passed over by their length, so that a thumbnail within one is not taken for the
picture; anything odd counts as unknown.
"""

from __future__ import annotations

import re
import struct

# SOF0 to SOF15 without DHT, JPG and DAC, which lie among them.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM and RST0 to RST7: no length follows.
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
# SOI, EOI and SOS: where one of them comes first, there is no frame header.
ENDS = frozenset({0xD8, 0xD9, 0xDA})
# Any number of fill bytes may precede a marker.
MARKER = re.compile(rb"\xff+([^\x00\xff])", re.DOTALL)
MAX_SEGMENTS = 4096
"""A picture of some megabytes with maps and previews has some hundred; beyond, a made-up file would only cost time."""


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as the file stores them, before any turning; None where they cannot be told."""
    place = 2
    for _ in range(MAX_SEGMENTS):
        found = MARKER.match(data, place)
        if found is None:
            return None
        marker, place = found[1][0], found.end()
        if marker in ALONE:
            continue
        try:
            (length,) = struct.unpack_from(">H", data, place)
            if marker in FRAMES:
                height, width = struct.unpack_from(">HH", data, place + 3)
                return (width, height) if width and height else None
        except struct.error:
            return None
        if marker in ENDS or length < 2:
            return None
        place += length
    return None
