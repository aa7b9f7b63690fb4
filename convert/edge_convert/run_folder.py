"""The folder of a build: one artefact folder a stage, each marked with what it was made from.

A stage is written beside its place and moved there when it is whole, so a build killed at any moment goes on from the
last finished stage, and within a stage from what the stage itself left there.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.files import write_atomically

MARK = "stage.json"
OWNER = "build.json"
BEGUN = "begun.json"


def key_of(*parts: Any) -> str:
    """A name for what a stage is made from: sha256 of the parts' JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class RunFolder:
    """A build's folder. Open it with `opened`, which keeps a second build out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[RunFolder]:
        """Make the folder where needed and hold it. Raises EdgeError where another build holds it."""
        if path.exists() and not path.is_dir():
            raise EdgeError(f"{path} is a file", remedy="name a folder with --out")
        path.mkdir(parents=True, exist_ok=True)
        with (path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EdgeError(
                    f"another build is writing to {path}",
                    remedy="wait for it to end, or name another folder with --out",
                ) from None
            yield cls(path)

    def require_own(self, name: str, data: Path) -> None:
        """Raise EdgeError where the folder holds a build of another name, or from another data set."""
        there = _read_json(self.path / OWNER)
        if there not in ({}, _owner(name, data)):
            raise EdgeError(
                f"{self.path} holds another build: {there.get('name')!r}, from {there.get('data')}",
                remedy="name another folder with --out, or replace that build with --replace",
            )

    def own(self, name: str, data: Path) -> None:
        """Mark whose build is in here. The bundle of another one, whose place this takes, is set aside."""
        path, wanted = self.path / OWNER, _owner(name, data)
        there = _read_json(path)
        if there != wanted:
            if there:
                self.set_aside(there.get("name", name))
            write_atomically(path, json.dumps(wanted).encode())

    def set_aside(self, name: str) -> None:
        """Rename a build's bundle that nobody shall take for this one's: `NAME.edge` becomes `NAME.edge.old`."""
        bundle = self.path / f"{name}.edge"
        if bundle.exists():
            ends = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
            names = (self.path / f"{name}.edge.old{end}" for end in ends)
            bundle.rename(next(path for path in names if not path.exists()))

    def stage(self, name: str) -> Path:
        """Where a stage's artefacts are."""
        return self.path / name

    def is_done(self, name: str, key: str) -> bool:
        """Whether the stage is whole and was made from exactly this."""
        partial = self._partial(name)
        if _key_in(partial / MARK) == key:
            # Killed between the mark and the move: it is whole.
            self._move(partial, name)
        return _key_in(self.stage(name) / MARK) == key

    def key(self, name: str) -> str | None:
        """What the stage was made from; None where it is not whole."""
        return _key_in(self.stage(name) / MARK)

    def adopt(self, name: str, other: RunFolder) -> None:
        """Take another build's whole stage over, without a copy where the file system has hard links.

        Stages are never written to in place, so neither build can change the other's. Nothing happens where this build
        has the very same stage already, or the other one has none.
        """
        key = other.key(name)
        if key is None or self.key(name) == key:
            return
        # Not where a stage is written: what a kill leaves there is written on, through the links to the other's files.
        adopted = self.path / f".{name}.adopted"
        shutil.rmtree(adopted, ignore_errors=True)
        adopted.mkdir()
        for file in other.stage(name).iterdir():
            if file.name != MARK:
                _link(file, adopted / file.name)
        (adopted / MARK).write_text(json.dumps({"key": key}), encoding="utf-8")
        self._move(adopted, name)

    def forget(self, name: str) -> None:
        """Take the mark off a stage, so that it runs again."""
        (self.stage(name) / MARK).unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str, key: str, *, afresh: bool = False) -> Iterator[Path]:
        """A folder to write a stage into; it takes the stage's place when the block ends without an error.

        What an interrupted build left in it, made from exactly the same, is still there, unless `afresh`.
        """
        partial = self._partial(name)
        if afresh or _key_in(partial / BEGUN) != key:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            (partial / BEGUN).write_text(json.dumps({"key": key}), encoding="utf-8")
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        (partial / BEGUN).rename(partial / MARK)
        self._move(partial, name)

    def _partial(self, name: str) -> Path:
        return self.path / f".{name}.partial"

    def _move(self, partial: Path, name: str) -> None:
        shutil.rmtree(self.stage(name), ignore_errors=True)
        partial.rename(self.stage(name))


def _owner(name: str, data: Path) -> dict[str, str]:
    return {"name": name, "data": str(data.resolve())}


def _link(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:
        # exFAT and some network shares have no hard links.
        shutil.copy2(file, name)


def _key_in(mark: Path) -> str | None:
    """The key that a stage was marked with; None where there is no readable mark."""
    return _read_json(mark).get("key")


def _read_json(path: Path) -> dict[str, str]:
    """What a mark says; nothing where there is no readable one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
