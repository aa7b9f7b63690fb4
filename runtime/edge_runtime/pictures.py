"""Which pictures a command line means: files as named, folders by what they hold."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from edge.preprocess import PICTURE_SUFFIXES


def expand(paths: Iterable[Path]) -> Iterator[Path]:
    """Each named file, and of each folder the pictures at any depth, sorted; hidden ones are passed over.

    A file that was named is yielded whatever its name says: it earns a verdict or a sentence.
    """
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, below, names in os.walk(path):
            below[:] = sorted(name for name in below if not name.startswith("."))
            for name in sorted(names):
                if not name.startswith(".") and Path(name).suffix.lower() in PICTURE_SUFFIXES:
                    yield Path(folder) / name
