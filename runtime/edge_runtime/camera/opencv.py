"""Cameras through OpenCV: V4L2 devices, network streams (MJPEG over HTTP, RTSP) and video files.

OpenCV gives blue, green, red; the network takes red, green, blue. `to_rgb` is the one place where that is turned.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError
from edge.preprocess import SIGNATURES, picture_kind
from edge_runtime.camera import OPEN_LIMIT_S, READ_LIMIT_S, Wanted

FASTEST_FPS = 1000
DEFAULT_FPS = 25.0
DEVICES = Path("/dev")
DEVICE_NAMES = Path("/sys/class/video4linux")
# How OpenCV's channel order becomes RGB, by the number of channels.
TO_RGB = {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}


class Capture:
    """An open `cv2.VideoCapture`."""

    def __init__(self, opener: Callable[[], cv2.VideoCapture], *, repeat: bool = False) -> None:
        """opener: opens it, and again for each repetition. It counts as live until `play_as_recorded`."""
        self._opener = opener
        self._capture = opener()
        self._repeat = repeat
        self.interval_s: float | None = None
        # A stream of no known length gives a negative number.
        self.says_it_holds = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        # OpenCV decodes into the same memory again and again: a new frame of a few megabytes is only made in RGB.
        self._decoded: NDArray[np.integer[Any] | np.floating[Any]] | None = None

    def is_open(self) -> bool:
        """Whether OpenCV could open it."""
        return self._capture.isOpened()

    def play_as_recorded(self) -> None:
        """Give its frames at their own pace, to an end. One that tells no pace is played at 25 frames a second."""
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.interval_s = 1 / (fps if 0 < fps <= FASTEST_FPS else DEFAULT_FPS)

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (height, width, 3) uint8 RGB; None at the end, or where the camera gives none."""
        frame = self._next()
        if frame is None and self._repeat:
            self._capture.release()
            self._capture = self._opener()
            frame = self._next()
        return None if frame is None else to_rgb(frame)

    def close(self) -> None:
        """Give the camera back."""
        self._capture.release()

    def _next(self) -> NDArray[np.generic] | None:
        try:
            got, frame = self._capture.read(self._decoded)
        except cv2.error as error:
            raise CameraError(f"OpenCV cannot read the camera ({error.err})", remedy="start it again") from None
        self._decoded = frame if got else None
        return self._decoded


def open_source(wanted: Wanted) -> Capture:
    """Open a device, an address or a file. Raises CameraError."""
    _quiet()
    return OPENERS[wanted.kind](wanted)


def to_rgb(frame: NDArray[np.generic]) -> NDArray[np.uint8]:
    """A frame as OpenCV gives it, as RGB in memory of its own.

    frame: uint8, (height, width) or (height, width, 1) grey, (height, width, 3) BGR or (height, width, 4) BGRA.
    Returns (height, width, 3) uint8 RGB. Raises CameraError for anything else, such as raw YUYV or 16 bits.
    """
    channels = 1 if frame.ndim == 2 else frame.shape[2] if frame.ndim == 3 else 0
    if frame.dtype != np.uint8 or channels not in TO_RGB or frame.size == 0:
        raise CameraError(
            f"the camera gives frames of {frame.dtype} with shape {frame.shape}",
            remedy="set it to 8-bit colour or grey, for instance with v4l2-ctl",
        )
    return np.asarray(cv2.cvtColor(np.asarray(frame, np.uint8), TO_RGB[channels]), np.uint8)


def devices() -> str:
    """The video devices of this machine and what they call themselves, for a message."""
    found = sorted(DEVICES.glob("video*"), key=lambda path: (len(path.name), path.name))
    if not found:
        return f"there is no {DEVICES}/video* here"
    return "here are " + ", ".join(f"{path}{_device_name(path)}" for path in found)


def _device_name(path: Path) -> str:
    try:
        return f" ({(DEVICE_NAMES / path.name / 'name').read_text(encoding='utf-8', errors='replace').strip()})"
    except OSError:
        return ""


def _open_device(wanted: Wanted) -> Capture:
    path = DEVICES / f"video{int(wanted.text)}" if wanted.text.isdecimal() else Path(wanted.text)
    linux = sys.platform == "linux"
    if linux and not path.exists():
        raise CameraError(
            f"{path} is not there; {devices()}",
            remedy="plug the camera in (--wait waits for it), or name another with --camera",
        )
    if linux and not os.access(path, os.R_OK | os.W_OK):
        raise CameraError(
            f"this user may not use {path}", remedy="add the user to the group video, log out and in again"
        )
    if not linux and not wanted.text.isdecimal():
        raise CameraError(f"{path} cannot be opened by name on this system", remedy="name the camera by its number")
    address: str | int = str(path) if linux else int(wanted.text)
    backend = cv2.CAP_V4L2 if linux else cv2.CAP_ANY
    source = Capture(lambda: cv2.VideoCapture(address, backend))
    if not source.is_open():
        raise CameraError(
            f"{path} cannot be opened as a camera; {devices()}",
            remedy="close other programs that use it, or name another: v4l2-ctl --list-devices tells which capture",
        )
    return source


def _open_url(wanted: Wanted) -> Capture:
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 1000 * OPEN_LIMIT_S, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 1000 * READ_LIMIT_S]
    source = Capture(lambda: cv2.VideoCapture(wanted.text, cv2.CAP_FFMPEG, limits))
    if not source.is_open():
        raise CameraError(
            f"{wanted.shown} gives no video",
            remedy="check the address, and that the camera is on (--wait waits for it)",
        )
    if source.says_it_holds:
        # A recording behind an address, not a camera.
        source.play_as_recorded()
    return source


def _open_file(wanted: Wanted) -> Capture:
    path = Path(wanted.text)
    _require_video(path)
    # FFmpeg by name: OpenCV's own reader would take pic001.jpg for the first of pic001.jpg, pic002.jpg ...
    source = Capture(lambda: cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG), repeat=wanted.repeat)
    if not source.is_open():
        raise CameraError(
            f"{path} is no video that OpenCV can read", remedy="name a camera, or a video file such as AVI, MP4 or MKV"
        )
    source.play_as_recorded()
    return source


def _require_video(path: Path) -> None:
    """Raises CameraError for what is not there, may not be read, or is a folder, a device or a picture."""
    try:
        if path.is_dir():
            raise CameraError(
                f"{path} is a folder", remedy="name a video file, or screen its pictures with edge screen"
            )
        if path.exists() and not path.is_file():
            raise CameraError(f"{path} is a pipe or a socket", remedy="name a camera's number, an address or a video")
        with path.open("rb") as stream:
            head = stream.read(max(len(sign) for signs in SIGNATURES.values() for sign in signs))
    except FileNotFoundError:
        raise CameraError(
            f"there is no video {path}",
            remedy="check the path; a camera is a number, /dev/videoN, an address or picamera2",
        ) from None
    except OSError as error:
        raise CameraError(f"{path} cannot be read ({error.strerror})", remedy="check its rights and the disk") from None
    if picture_kind(head) is not None:
        raise CameraError(f"{path} is a picture", remedy="screen it with edge screen")


def _quiet() -> None:
    """The libraries' own words on stderr are for their makers; what a user can mend is said by CameraError."""
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(READ_LIMIT_S))


OPENERS: dict[str, Callable[[Wanted], Capture]] = {"device": _open_device, "url": _open_url, "file": _open_file}
