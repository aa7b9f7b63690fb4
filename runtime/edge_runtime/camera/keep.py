"""Referred frames on disk: the newest few, and never the last of the space."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.files import write_durably

# A clear frame proves nothing later, and there are many that cannot be judged while a slide is moved.
NOT_KEPT = frozenset({"clear", "retake"})
OURS = re.compile(r"([0-9]{6,})-[a-z]+-[0-9]{8}T[0-9]{6}\.png")
LEFT_OVER = re.compile(OURS.pattern + r"\.[0-9a-f]{8}\.partial")
FREE_SHARE = 0.05
"""Of the file system stays free: the system needs room to log and to start again."""


class Keeper:
    """Folders with the newest pictures, at most so many each, also over several runs and several loops at once.

    A picture takes a name that nobody has, so that loops that share a folder never replace one another's.
    """

    def __init__(self, folders: Mapping[str, Path], *, most: int) -> None:
        """folders: what is kept (a word) -> where. most: pictures in each. Raises OSError.

        Only files with names of this program's are ever removed.
        """
        self._folders, self._most = dict(folders), most
        self._number = 0
        for folder in self._folders.values():
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.iterdir():
                if LEFT_OVER.fullmatch(path.name):
                    # Of a run whose power went away; or of a loop that writes it now, which then writes it again.
                    path.unlink(missing_ok=True)

    def has(self, what: str) -> bool:
        """Whether there is a folder for it."""
        return what in self._folders

    def keep(self, pictures: Mapping[str, NDArray[np.uint8]], decision: str) -> dict[str, Path]:
        """Write views of one frame as PNG, then remove the oldest above the bound. Raises OSError, nothing removed.

        pictures: what it is -> (height, width, 3) uint8 RGB; what has no folder is passed over. All have the same
        name, with a number that tells their order, for a small board's clock may jump. All are written or none is.
        """
        data = {folder: _png(pictures[what]) for what, folder in self._folders.items() if what in pictures}
        if not data:
            return {}
        try:
            name = self._write(data, decision)
        except FileNotFoundError:
            # Another loop began, and took what was half written for a lost run's. It does so once.
            name = self._write(data, decision)
        for folder in data:
            # Read anew each time: another loop may write here too.
            ours = _ours(folder)
            for path in ours[: max(0, len(ours) - self._most)]:
                path.unlink(missing_ok=True)
        return {what: folder / name for what, folder in self._folders.items() if folder in data}

    def _write(self, data: Mapping[Path, bytes], decision: str) -> str:
        """Put bytes into each folder under one new name, which is returned. Raises OSError, nothing written."""
        partials: dict[Path, Path] = {}
        claimed: list[Path] = []
        try:
            for folder, content in data.items():
                partials[folder] = folder / f"{_name(0, decision)}.{secrets.token_hex(4)}.partial"
                _write_partial(partials[folder], content)
            claimed = self._claim(data, decision)
            for partial, target in zip(partials.values(), claimed, strict=True):
                partial.replace(target)
        except BaseException:
            for path in (*partials.values(), *claimed):
                path.unlink(missing_ok=True)
            raise
        return claimed[0].name

    def _claim(self, folders: Collection[Path], decision: str) -> list[Path]:
        """The next name that is free in all folders, as an empty file in each. Raises OSError, nothing claimed.

        Two loops may take one number in the same moment, with another decision or second, but never one name.
        """
        self._number = max([self._number, *(_number(path) for folder in folders for path in _ours(folder))])
        while True:
            self._number += 1
            name = _name(self._number, decision)
            claimed: list[Path] = []
            try:
                for folder in folders:
                    # Not by a hard link, which the file systems of memory cards and sticks do not have.
                    (folder / name).touch(exist_ok=False)
                    claimed.append(folder / name)
            except OSError as error:
                for path in claimed:
                    path.unlink(missing_ok=True)
                if not isinstance(error, FileExistsError):
                    raise
            else:
                return claimed


def _write_partial(path: Path, data: bytes) -> None:
    """Bytes that have reached the disk, and for which there was room. Raises OSError."""
    space = shutil.disk_usage(path.parent)
    if space.free - len(data) < FREE_SHARE * space.total:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path.parent))
    write_durably(path, data)


def _ours(folder: Path) -> list[Path]:
    """This program's pictures in a folder, the oldest first."""
    return sorted({path for path in folder.iterdir() if OURS.fullmatch(path.name)}, key=_age)


def _age(path: Path) -> tuple[int, str]:
    return _number(path), path.name


def _name(number: int, decision: str) -> str:
    return f"{number:06d}-{decision}-{time.strftime('%Y%m%dT%H%M%S')}.png"


def _number(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _png(picture: NDArray[np.uint8]) -> bytes:
    # Without loss, so that screening the file gives the same verdict; the fastest level, for the loop waits.
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
