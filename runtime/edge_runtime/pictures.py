"""Which pictures a command line means: files as named, folders by what they hold."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.dataset import first_few, printable
from edge.preprocess import PICTURE_SUFFIXES
from edge.walk import Entry, walk


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures that a command line means, and what was passed over on the way to them.

    files: in the order of the command line, a folder's sorted. The rest lay in the named folders: others (files that
    by their names are no pictures), hidden (files and folders), linked (folders), unreadable (folders).
    """

    files: tuple[Path, ...]
    others: tuple[Path, ...]
    hidden: tuple[Path, ...]
    linked: tuple[Path, ...]
    unreadable: tuple[Path, ...]

    def __iter__(self) -> Iterator[Path]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    @property
    def complete(self) -> bool:
        """Whether every folder could be read: otherwise there may be pictures that nobody has screened."""
        return not self.unreadable

    def passed_over(self) -> str:
        """What was passed over, in one sentence with the first names; "" where that was nothing."""
        counts = [
            _count(len(self.others), "file that is no picture", "files that are no pictures"),
            _count(len(self.hidden), "hidden file or folder", "hidden files or folders"),
            _count(len(self.linked), "linked folder", "linked folders"),
            _count(len(self.unreadable), "folder that cannot be read", "folders that cannot be read"),
        ]
        # The worst first: of many names only the first few are shown.
        names = [printable(str(path)) for path in (*self.unreadable, *self.linked, *self.hidden, *self.others)]
        return f"passed over {', '.join(filter(None, counts))}: {first_few(names)}" if names else ""


def expand(paths: Iterable[Path]) -> Pictures:
    """Each named file, and of each folder the pictures at any depth.

    A file that was named is among them whatever its name says: it earns a verdict or a sentence. A named folder may be
    hidden or a link; those below it are passed over.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    for path in paths:
        # os.path.isdir, because Path.is_dir raises where a folder above may not be entered.
        if os.path.isdir(path):  # noqa: PTH112
            for entry in walk(path):
                found[_kind(entry)].append(entry.path)
        else:
            found["picture"].append(path)
    return Pictures(
        files=tuple(found["picture"]),
        others=tuple(found["other"]),
        hidden=tuple(found["hidden"]),
        linked=tuple(found["linked folder"]),
        unreadable=tuple(found["unreadable folder"]),
    )


def _kind(entry: Entry) -> str:
    # macOS leaves `._cell.jpg`, which is no picture, beside `cell.jpg`.
    if entry.kind == "hidden folder" or (entry.kind == "file" and entry.path.name.startswith(".")):
        return "hidden"
    if entry.kind == "file":
        return "picture" if entry.path.suffix.lower() in PICTURE_SUFFIXES else "other"
    return entry.kind


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}" if n else ""
