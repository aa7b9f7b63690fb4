"""Referred frames on disk: the newest few, and never the last of the space."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.files import write_atomically

# A clear frame proves nothing later, and there are many that cannot be judged while a slide is moved.
NOT_KEPT = frozenset({"clear", "retake"})
OURS = re.compile(r"([0-9]{6,})-[a-z]+-[0-9]{8}T[0-9]{6}\.png")
LEFT_OVER = re.compile(OURS.pattern + r"\.[0-9a-f]{8}\.partial")
FREE_SHARE = 0.05
"""Of the file system stays free: the system needs room to log and to start again."""


class Keeper:
    """Folders with the newest pictures of a loop, at most so many each, also over several runs."""

    def __init__(self, folders: Mapping[str, Path], *, most: int) -> None:
        """folders: what is kept (a word) -> where. most: pictures in each. Raises OSError.

        Only files with names of this program's are ever removed.
        """
        self._folders, self._most = dict(folders), most
        self._ours: dict[str, list[Path]] = {}
        for what, folder in self._folders.items():
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                if LEFT_OVER.fullmatch(path.name):
                    # Of a run whose power went away.
                    path.unlink(missing_ok=True)
            self._ours[what] = sorted((path for path in folder.iterdir() if OURS.fullmatch(path.name)), key=_number)
        self._number = max((_number(path) for paths in self._ours.values() for path in paths), default=0)

    def has(self, what: str) -> bool:
        """Whether there is a folder for it."""
        return what in self._folders

    def keep(self, pictures: Mapping[str, NDArray[np.uint8]], decision: str) -> dict[str, Path]:
        """Write views of one frame as PNG, then remove the oldest above the bound. Raises OSError, nothing removed.

        pictures: what it is -> (height, width, 3) uint8 RGB; what has no folder is passed over. All have the same
        name, with a number that tells their order, for a small board's clock may jump.
        """
        self._number += 1
        name = f"{self._number:06d}-{decision}-{time.strftime('%Y%m%dT%H%M%S')}.png"
        written = {}
        for what, folder in self._folders.items():
            if what in pictures:
                written[what] = self._write(folder / name, _png(pictures[what]))
                self._ours[what].append(written[what])
                while len(self._ours[what]) > self._most:
                    self._ours[what].pop(0).unlink(missing_ok=True)
        return written

    def _write(self, target: Path, data: bytes) -> Path:
        space = shutil.disk_usage(target.parent)
        if space.free - len(data) < FREE_SHARE * space.total:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target.parent))
        write_atomically(target, data)
        return target


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _png(picture: NDArray[np.uint8]) -> bytes:
    # Without loss, so that screening the file gives the same verdict; the fastest level, for the loop waits.
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
