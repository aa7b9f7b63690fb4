"""What lies below a folder, in order: the one walk that data sets and command lines share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from edge.frozen import dataclass

Kind = Literal["file", "empty folder", "hidden folder", "linked folder", "unreadable folder"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A file, or a folder that the walk did not enter or found empty.

    path: below the folder that was walked, which is its beginning. reason: why a folder cannot be read, else "".
    """

    path: Path
    kind: Kind
    reason: str = ""


def walk(folder: Path) -> Iterator[Entry]:
    """Every file below the folder, and each folder that gives none; sorted within a folder, files first.

    Hidden and linked folders are named and not entered: a link can lead out of the folder, or round in a circle. What
    an unreadable folder holds cannot be known, so the caller must decide what its entry means.
    """
    refused: list[OSError] = []
    for parent, folders, files in os.walk(folder, onerror=refused.append):
        yield from _drain(refused)
        if not folders and not files:
            yield Entry(path=Path(parent), kind="empty folder")
        yield from (Entry(path=Path(parent, name), kind="file") for name in sorted(files))
        for name in sorted(folders):
            path = Path(parent, name)
            if path.is_symlink() or name.startswith("."):
                folders.remove(name)
                yield Entry(path=path, kind="linked folder" if path.is_symlink() else "hidden folder")
        folders.sort()
    yield from _drain(refused)


def _drain(refused: list[OSError]) -> Iterator[Entry]:
    while refused:
        error = refused.pop(0)
        yield Entry(path=Path(error.filename), kind="unreadable folder", reason=error.strerror or str(error))
