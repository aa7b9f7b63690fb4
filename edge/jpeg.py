"""The size of a JPEG picture, read from its header before anything is decoded.

ITU-T T.81, annex B. Segments are passed over by their length, so that a thumbnail within one is not taken for the
picture; anything odd counts as unknown.
"""

from __future__ import annotations

# SOF0 to SOF15 without DHT, JPG and DAC, which lie among them.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# TEM and RST0 to RST7: no length follows.
ALONE = frozenset({0x01, *range(0xD0, 0xD8)})
# A stuffed zero, SOI, EOI and SOS: where one of them comes first, there is no frame header.
ENDS = frozenset({0x00, 0xD8, 0xD9, 0xDA})
MAX_STEPS = 4096
"""Segments and fill bytes: a picture of some megabytes with maps and previews has some hundred; beyond, a made-up file
would only cost time."""


def picture_size(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as the file stores them, before any turning; None where they cannot be told."""
    place = 2
    # By single bytes: this runs before every JPEG, and the modules that would read them cost more than the reading.
    for _ in range(MAX_STEPS):
        head = data[place : place + 4]
        if len(head) < 4 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker == 0xFF:
            # Any number of fill bytes may precede a marker.
            place += 1
            continue
        if marker in ALONE:
            place += 2
            continue
        length = head[2] << 8 | head[3]
        if marker in FRAMES:
            frame = data[place + 5 : place + 9]
            if len(frame) < 4:
                return None
            height, width = frame[0] << 8 | frame[1], frame[2] << 8 | frame[3]
            return (width, height) if width and height else None
        if marker in ENDS or length < 2:
            return None
        place += 2 + length
    return None
