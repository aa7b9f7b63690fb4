"""Cameras: frames as RGB, the newest first. Read newest.py, grabber.py and watch.py, in this order.

A table of kind -> module, as text, so that nothing is imported that is not used. A module gives `open_source(wanted)`,
which returns a `Source` or raises CameraError.
"""

from __future__ import annotations

import importlib
import re
from typing import Literal, Protocol
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError
from edge.frozen import dataclass

SOURCES = {
    "device": "edge_runtime.camera.opencv",
    "url": "edge_runtime.camera.opencv",
    "file": "edge_runtime.camera.opencv",
    "picamera2": "edge_runtime.camera.picamera2",
}

# A library's own limits. OpenCV's are 10 s for a device and 30 s for a stream: nobody should look at a dead picture for
# so long. grabber.py waits a little longer, for those that keep to no limit.
READ_LIMIT_S = 4
OPEN_LIMIT_S = 8

Kind = Literal["device", "url", "file", "picamera2"]


class Source(Protocol):
    """An open camera, used by one thread.

    interval_s: seconds from frame to frame of a recording; None where a live camera sets the pace. says_it_holds: the
    frames of a recording by its own header; 0 where it does not tell.
    """

    interval_s: float | None
    says_it_holds: int

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (height, width, 3) uint8 RGB, upright, the caller's own; None where there is none any more.

        Waits for it. Raises CameraError for a frame that is no picture.
        """

    def close(self) -> None:
        """Give the camera back."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What `--camera` asks for. text: as it was typed, but an address's scheme in small letters, for FFmpeg knows no
    others. repeat: a file begins again at its end.
    """

    text: str
    kind: Kind
    repeat: bool = False

    @property
    def shown(self) -> str:
        """The name for records and messages: an address without its password and its query, which may hold a key."""
        if self.kind == "device" and self.text.isdecimal():
            return f"camera {self.text}"
        if self.kind != "url":
            return self.text
        address = urlsplit(self.text)
        return f"{address.scheme}://{address.netloc.rpartition('@')[2]}{address.path}"


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A picture from a camera.

    pixels: (height, width, 3) uint8 RGB, upright. number: from 1, on through reconnections. grabbed_s: on the monotonic
    clock, when it lay decoded in memory; how long it was on its way from the sensor is not known.
    """

    pixels: NDArray[np.uint8]
    number: int
    grabbed_s: float


def parse_camera(text: str, *, repeat: bool = False) -> Wanted:
    """A number or /dev/..., an address scheme://... or SCHEME://..., `picamera2[:N]`; the rest is a video file.

    Raises CameraError for no text at all.
    """
    if not text.strip():
        raise CameraError(
            "no camera is named", remedy="give --camera a number, /dev/videoN, an address, picamera2 or a video file"
        )
    if re.fullmatch(r"[0-9]{1,3}", text) or text.startswith("/dev/"):
        return Wanted(text=text, kind="device")
    if address := re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", text):
        return Wanted(text=address[0].lower() + text[address.end() :], kind="url")
    if re.fullmatch(r"picamera2(:[0-9]+)?", text):
        return Wanted(text=text, kind="picamera2")
    return Wanted(text=text, kind="file", repeat=repeat)


def open_source(wanted: Wanted) -> Source:
    """Open a camera. Raises CameraError."""
    source: Source = importlib.import_module(SOURCES[wanted.kind]).open_source(wanted)
    return source
