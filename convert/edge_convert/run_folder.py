"""The folder of a build: one artefact folder a stage, each marked with what it was made from.

A stage is written beside its place and moved there when it is whole, so a build killed at any moment goes on from the
last finished stage, and within a stage from what the stage itself left there. The mark holds a digest of each file, so
that one which was damaged, or replaced by hand, is not taken for what was measured. Nothing that has no mark is
removed: it is not a build's.
"""

from __future__ import annotations

import fcntl
import fnmatch
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.errors import EdgeError
from edge.files import naming, sha256_of, write_atomically

MARK = "stage.json"
OWNER = "build.json"
BEGUN = "begun.json"


def key_of(*parts: Any) -> str:
    """A name for what a stage is made from: sha256 of the parts' JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def make_folder(out: Path) -> None:
    """Make what `--out` names, where needed. Raises EdgeError for a file."""
    if out.exists() and not out.is_dir():
        raise EdgeError(f"{out} is a file", remedy="name a folder with --out")
    out.mkdir(parents=True, exist_ok=True)


class RunFolder:
    """A build's folder. Open it with `opened`, which keeps a second build out."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[RunFolder]:
        """Make the folder where needed and hold it. Raises EdgeError where another build holds it."""
        make_folder(path)
        with (path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise EdgeError(
                    f"another build is writing to {path}",
                    remedy="wait for it to end, or name another folder with --out",
                ) from None
            yield cls(path)

    def require_own(self, name: str, data: Path, places: Collection[str], *, replace: bool) -> None:
        """Raise EdgeError where the folder is not this build's to write into.

        It is not where it holds a build of another name or from another data set, unless `replace`, nor where it holds
        something by the name of what a build writes that no build has written. places: those names.
        """
        owner = self.path / OWNER
        there = _read_json(owner)
        if owner.is_dir():
            raise EdgeError(f"{owner} is a folder", remedy="remove it, or name another folder with --out")
        if not replace and owner.exists() and not there:
            raise EdgeError(
                f"{owner} cannot be read, so whose build is in {self.path} is not known",
                remedy="name another folder with --out, or replace that build with --replace",
            )
        if not replace and there and not _is_owner(there, name, data):
            raise EdgeError(
                f"{self.path} holds another build: {there.get('name')!r}, from {there.get('data')}",
                remedy="name another folder with --out, or replace that build with --replace",
            )
        for path in (self.path / place for place in places):
            is_ours = (path / MARK).exists() if path.is_dir() else owner.exists()
            if path.is_symlink() or (path.exists() and not is_ours):
                raise _foreign(path)

    def own(self, name: str, data: Path) -> None:
        """Mark whose build is in here. The bundle of another one, whose place this takes, is set aside."""
        path = self.path / OWNER
        there = _read_json(path)
        if not _is_owner(there, name, data):
            unknown = path.exists() and not there
            for bundle in sorted(self.path.glob("*.edge")) if unknown else ():
                self.set_aside(bundle.stem)
            if there:
                self.set_aside(there.get("name", name))
            write_atomically(path, json.dumps({"name": name, "data": str(data.resolve())}).encode())

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
        """Whether the stage is whole and was made from exactly this. Raises EdgeError where it was changed since."""
        partial = self._partial(name)
        if _key_in(partial / MARK) == key:
            # Killed between the mark and the move: it is whole.
            self._move(partial, name)
        if self.key(name) != key:
            return False
        self.require_whole(name)
        return True

    def key(self, name: str) -> str | None:
        """What the stage was made from; None where it is not whole."""
        return _key_in(self.stage(name) / MARK)

    def require_whole(self, name: str) -> None:
        """Raise EdgeError where a stage is not there, or one of its files is not as the stage left it."""
        stage = self.stage(name)
        if self.key(name) is None:
            raise EdgeError(f"{self.path} holds no finished {name} stage", remedy="name the --out folder of a build")
        for file, digest in _files_in(stage / MARK).items():
            try:
                found = sha256_of(stage / file)
            except FileNotFoundError:
                found = ""
            except IsADirectoryError:
                found = "a folder"
            if found != digest:
                state = "was changed since the build made it" if found else "is missing"
                raise EdgeError(
                    f"{stage / file} {state}", remedy=f"put it back, build with --from {name}, or remove {stage}"
                )

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
        # A copy, because it is what this build may change.
        shutil.copy2(other.stage(name) / MARK, adopted / MARK)
        self._move(adopted, name)

    def forget(self, name: str) -> None:
        """Empty the mark of a stage, so that it runs again. The mark stays, for the folder is still a build's."""
        mark = self.stage(name) / MARK
        if mark.exists():
            write_atomically(mark, b"{}")

    @contextmanager
    def writing(self, name: str, key: str, *, afresh: bool = False, scratch: Collection[str] = ()) -> Iterator[Path]:
        """A folder to write a stage into; it takes the stage's place when the block ends without an error.

        What an interrupted build left in it, made from exactly the same, is still there, unless `afresh`. scratch:
        patterns of the names of files that only an interrupted build needs; they do not become part of the stage.
        """
        partial = self._partial(name)
        if afresh or _key_in(partial / BEGUN) != key:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            (partial / BEGUN).write_text(json.dumps({"key": key}), encoding="utf-8")
        with naming(partial):
            yield partial
            files = {}
            for file in sorted(path for path in partial.rglob("*") if path.is_file()):
                inside = str(file.relative_to(partial))
                if not any(fnmatch.fnmatch(inside, pattern) for pattern in (BEGUN, MARK, *scratch)):
                    with file.open("rb") as stream:
                        os.fsync(stream.fileno())
                    files[inside] = sha256_of(file)
            write_atomically(partial / MARK, json.dumps({"key": key, "files": files}).encode())
        self._move(partial, name)

    def _partial(self, name: str) -> Path:
        return self.path / f".{name}.partial"

    def _move(self, partial: Path, name: str) -> None:
        stage, old, kept = self.stage(name), self.path / f".{name}.old", _files_in(partial / MARK)
        for file in partial.rglob("*"):
            if kept and file.is_file() and str(file.relative_to(partial)) not in (*kept, MARK):
                file.unlink()
        shutil.rmtree(old, ignore_errors=True)
        if stage.exists():
            if not (stage / MARK).exists():
                raise _foreign(stage)
            # In one step: a kill while it is removed would leave half of it, without its mark.
            stage.rename(old)
        partial.rename(stage)
        shutil.rmtree(old, ignore_errors=True)


def _foreign(path: Path) -> EdgeError:
    kind = "a link" if path.is_symlink() else "not a build's"
    return EdgeError(
        f"{path} is {kind}, and a build would replace it", remedy="move it, or name another folder with --out"
    )


def _is_owner(there: dict[str, Any], name: str, data: Path) -> bool:
    return (there.get("name"), there.get("data")) == (name, str(data.resolve()))


def _link(file: Path, name: Path) -> None:
    try:
        os.link(file, name)
    except OSError:
        # exFAT and some network shares have no hard links.
        shutil.copy2(file, name)


def _key_in(mark: Path) -> str | None:
    """The key that a stage was marked with; None where there is no readable mark."""
    key = _read_json(mark).get("key")
    return key if isinstance(key, str) else None


def _files_in(mark: Path) -> dict[str, str]:
    """The sha256 of each file of a stage, by its name inside."""
    files = _read_json(mark).get("files")
    return files if isinstance(files, dict) else {}


def _read_json(path: Path) -> dict[str, Any]:
    """What a mark says; nothing where there is no readable one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
