"""A window with the last verdict and the very picture that it is about, where there is a screen."""

from __future__ import annotations

import re
import subprocess
import sys

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError

TITLE = "edge watch"
PROBE_LIMIT_S = 20
# Qt ends the whole process where it finds no display: let a process try that has nothing to lose.
PROBE = "import cv2; cv2.namedWindow('edge'); cv2.waitKey(1)"
SIZE_PX = (960, 720)
ESCAPE = 27


class Window:
    """One window, used by the main thread alone."""

    def __init__(self) -> None:
        """Open it. Raises CameraError where OpenCV has no windows or there is no display."""
        _require_windows()
        cv2.namedWindow(TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
        cv2.resizeWindow(TITLE, *SIZE_PX)
        self._shown: NDArray[np.uint8] | None = None

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Show a picture, (height, width, 3) uint8 RGB, in place of the one before."""
        self._shown = picture
        # Painted when `is_closed` next lets the window live: a wait here would take a key and lose it.
        cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def darken(self) -> None:
        """Take the verdict away while the camera gives nothing: an old one must not look like a new one."""
        if self._shown is not None:
            self.show(np.asarray(self._shown // 6, np.uint8))

    def is_closed(self) -> bool:
        """Let the window live, and say whether somebody closed it, or pressed q or Escape in it."""
        key = cv2.waitKey(1) & 0xFF
        return key in (ord("q"), ESCAPE) or cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1

    def close(self) -> None:
        """Close it."""
        cv2.destroyAllWindows()


def _require_windows() -> None:
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        raise CameraError(
            "this OpenCV has no windows (opencv-python-headless)",
            remedy="leave --window out, or: pip uninstall opencv-python-headless, then pip install opencv-python",
        )
    try:
        done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=PROBE_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        done = None
    if done is None or done.returncode != 0:
        raise CameraError(
            "OpenCV cannot open a window here", remedy="leave --window out, or run it in a desktop session (DISPLAY)"
        )
