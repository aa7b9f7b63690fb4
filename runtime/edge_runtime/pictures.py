"""Which pictures a command line means: files as named, folders by what they hold."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import EdgeError, PictureError
from edge.frozen import dataclass
from edge.names import first_few, printable
from edge.preprocess import PICTURE_KINDS, PICTURE_SUFFIXES
from edge.walk import Entry, walk


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The pictures that a command line means, and what was passed over on the way to them.

    files: in the order of the command line, a folder's sorted. The rest lay in the named folders: others (files that
    by their names are of no kind that is read), hidden (files and folders), linked (folders), unreadable (folders).
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
            _count(len(self.others), f"file that is no {PICTURE_KINDS}", f"files that are no {PICTURE_KINDS}"),
            _count(len(self.hidden), "hidden file or folder", "hidden files or folders"),
            _count(len(self.linked), "linked folder", "linked folders"),
            _count(len(self.unreadable), "folder that cannot be read", "folders that cannot be read"),
        ]
        # The worst first: of many names only the first few are shown.
        names = [printable(str(path)) for path in (*self.unreadable, *self.linked, *self.hidden, *self.others)]
        return f"passed over {', '.join(filter(None, counts))}: {first_few(names)}" if names else ""

    def require_some(self) -> None:
        """Raise PictureError where there is no picture: with the kinds of file that were found instead, if any."""
        if self.files:
            return
        kinds = sorted({printable(path.suffix.lower()) or "without an ending" for path in self.others})
        found = f": the files there are {first_few(kinds)}" if kinds else ""
        raise PictureError(
            f"there is no picture in what was named{found}", remedy=f"name {PICTURE_KINDS} files, or save them so"
        )


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


def require_elsewhere(target: Path, pictures: Iterable[Path], what: str, *, remedy: str) -> None:
    """Raise EdgeError where what is to be written at `target` would lie in a named folder: it would be screened next
    time. what: it, in the plural or singular, as the sentence begins.
    """
    for named in pictures:
        if os.path.isdir(named) and target.resolve().is_relative_to(named.resolve()):  # noqa: PTH112, as in `expand`
            raise EdgeError(f"{what} would lie among the pictures of {named}", remedy=remedy)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """A PictureError of one picture among several says which: its sentence begins with the name."""
    try:
        yield
    except PictureError as error:
        raise PictureError(f"{name}: {error.message}", remedy=error.remedy) from None


def _kind(entry: Entry) -> str:
    # macOS leaves `._cell.jpg`, which is no picture, beside `cell.jpg`.
    if entry.kind == "hidden folder" or (entry.kind == "file" and entry.path.name.startswith(".")):
        return "hidden"
    if entry.kind == "file":
        return "picture" if entry.path.suffix.lower() in PICTURE_SUFFIXES else "other"
    return entry.kind


def _count(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}" if n else ""
