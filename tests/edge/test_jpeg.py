"""A JPEG's size is read from its header: whatever comes before it, and never from a thumbnail."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from edge.jpeg import MAX_STEPS, picture_size


def jpeg(width: int, height: int, *flags: int) -> bytes:
    return cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8), list(flags))[1].tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


PLAIN = jpeg(61, 47)
FRAME = segment(0xC0, struct.pack(">BHHB", 8, 47, 61, 3))


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        jpeg(61, 47, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
        PLAIN[:2] + segment(0xE1, b"Exif\0\0" + jpeg(16, 12)) + PLAIN[2:],
        PLAIN[:2] + segment(0xFE, FRAME) + segment(0xEC, bytes(65533)) + PLAIN[2:],
        PLAIN[:2] + b"\xff" * 5 + PLAIN[2:],
        PLAIN[:2] + b"\xff\x01" + PLAIN[2:],
        PLAIN + jpeg(16, 12),
    ],
    ids=["baseline", "progressive", "thumbnail", "long-segments", "fill-bytes", "marker-alone", "two-pictures"],
)
def test_the_size_is_that_of_the_first_frame_outside_segments(data: bytes) -> None:
    assert picture_size(data) == (61, 47)


@pytest.mark.parametrize("number", range(0xC0, 0xD0))
def test_frames_of_every_process_are_known_and_tables_are_none(number: int) -> None:
    table = number in (0xC4, 0xC8, 0xCC)
    frame = segment(number, struct.pack(">BHHB", 8, 2, 3, 1))
    assert picture_size(b"\xff\xd8" + frame + FRAME) == ((61, 47) if table else (3, 2))


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xd9",
        b"\xff\xd8\xff\xe0",
        b"\xff\xd8\xff\xe0\x00",
        b"\xff\xd8" + FRAME[:8],
        b"\xff\xd8" + segment(0xDA, b"") + FRAME,
        b"\xff\xd8\xff\xd8" + FRAME,
        b"\xff\xd8\x00" + FRAME,
        b"\xff\xd8\xff\x00" + FRAME,
        b"\xff\xd8\xff\xe0\x00\x01" + FRAME,
        b"\xff\xd8" + segment(0xC0, struct.pack(">BHHB", 8, 0, 61, 3)),
        b"\xff\xd8" + segment(0xFE, b"") * MAX_STEPS + FRAME,
        b"\xff\xd8" + b"\xff" * 1_000_000,
    ],
    ids=[
        "nothing",
        "half-a-marker",
        "end",
        "no-length",
        "half-a-length",
        "half-a-frame",
        "scan-first",
        "start-twice",
        "rubbish",
        "zero-marker",
        "length-1",
        "height-comes-later",
        "endless",
        "fill-alone",
    ],
)
def test_what_cannot_be_followed_is_unknown(data: bytes) -> None:
    assert picture_size(data) is None


def test_rubbish_never_raises() -> None:
    random = np.random.default_rng(5)
    for _ in range(2000):
        data = bytearray(PLAIN[:200])
        for place in random.integers(2, len(data), 4):
            data[place] = random.integers(0, 256)
        size = picture_size(bytes(data[: random.integers(2, len(data))]))
        assert size is None or min(size) > 0
