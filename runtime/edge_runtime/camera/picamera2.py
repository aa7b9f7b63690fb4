"""The Raspberry Pi's own camera, through picamera2 (libcamera), where the system has it.

Not run on a Pi yet: written after the source of picamera2 0.3.38.
"""

from __future__ import annotations

import importlib
from concurrent.futures import TimeoutError as LateError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError
from edge_runtime.camera import READ_LIMIT_S, Wanted

# libcamera names a format by the bits of a little-endian word, so that its "RGB888" lies in memory as blue, green,
# red, and "BGR888" as red, green, blue: the array of "BGR888" is RGB and needs no turning. (In picamera2's
# request.py, the table for its JPEG encoder: {"BGR888": "RGB", "RGB888": "BGR"}.)
FORMAT = "BGR888"
SIZE_PX = (1280, 720)


class PiCamera:
    """An open `picamera2.Picamera2`."""

    interval_s: float | None = None
    says_it_holds = 0

    def __init__(self, camera: Any) -> None:
        self._camera = camera

    def read(self) -> NDArray[np.uint8] | None:
        """The next frame, (height, width, 3) uint8 RGB; None where none comes in time."""
        try:
            frame = self._camera.capture_array("main", wait=READ_LIMIT_S)
        except (LateError, RuntimeError, OSError):
            return None
        return np.asarray(frame, np.uint8)

    def close(self) -> None:
        """Give the camera back."""
        self._camera.close()


def open_source(wanted: Wanted) -> PiCamera:
    """Open the camera, of several the N-th as `picamera2:N`. Raises CameraError."""
    try:
        library = importlib.import_module("picamera2")
    except ImportError as error:
        raise CameraError(
            f"picamera2 cannot be loaded ({error})",
            remedy="on Raspberry Pi OS: sudo apt install python3-picamera2, and a virtual environment made with "
            "--system-site-packages; a USB camera needs neither: --camera 0",
        ) from None
    number = int(wanted.text.partition(":")[2] or 0)
    found = library.Picamera2.global_camera_info()
    if number >= len(found):
        raise CameraError(
            f"picamera2 finds {len(found)} cameras, and number {number} is wanted",
            remedy="check the cable with rpicam-hello --list-cameras (--wait waits for it)",
        )
    try:
        camera = library.Picamera2(number)
    except (RuntimeError, OSError) as error:
        raise CameraError(
            f"{wanted.shown} cannot be opened ({error})", remedy="close other programs that use the camera"
        ) from None
    try:
        camera.configure(camera.create_video_configuration(main={"format": FORMAT, "size": SIZE_PX}))
        camera.start()
    except (RuntimeError, OSError) as error:
        camera.close()
        raise CameraError(f"{wanted.shown} does not start ({error})", remedy="start the device again") from None
    return PiCamera(camera)
