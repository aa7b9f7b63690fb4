"""A site's own confirmed cases: an SQLite file beside the bundle, which stays as it was sealed.

It is keyed to the network that made the embeddings, not to the bundle's file: a bundle with the same network and
another threshold reads it too. Each picture is added in a transaction of its own, so a program killed at any moment
leaves the cases that it had said were added, whole.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from edge.bundle import Bundle
from edge.errors import StoreError
from edge.reference import Cases, network_id

SUFFIX = ".cases.db"
APPLICATION = 0x45444745
"""What SQLite's header calls the program that a file belongs to; here the letters EDGE."""
SCHEMA = 1
PREFIX = "site-"
WAIT_S = 10.0
TABLES = """
CREATE TABLE store (network TEXT NOT NULL, bundle TEXT NOT NULL, channels INTEGER NOT NULL);
CREATE TABLE cases (
  number INTEGER PRIMARY KEY AUTOINCREMENT, picture_sha256 TEXT NOT NULL UNIQUE, picture TEXT NOT NULL,
  label TEXT NOT NULL, note TEXT NOT NULL, added TEXT NOT NULL, bundle_sha256 TEXT NOT NULL,
  codes BLOB NOT NULL, thumbnail BLOB NOT NULL
)
"""


@dataclass(frozen=True, kw_only=True)
class SiteCase:
    """One case of the site. id: never given again. picture: the path as it was named. added: UTC. bundle_sha256: of
    the bundle that it was added with. has_thumbnail: whether a small picture is kept.
    """

    id: str
    label: str
    picture: str
    picture_sha256: str
    note: str
    added: str
    bundle_sha256: str
    has_thumbnail: bool


def default_store(bundle: Path) -> Path:
    """Where a bundle's site keeps its cases where nothing else is said: beside it."""
    return bundle.with_name(bundle.name + SUFFIX)


def store_of(bundle: Bundle, path: Path, named: Path | None, *, may_be_new: bool = False) -> SiteStore:
    """The site's cases of a bundle at `path`. named: where they are, None for beside it; it must be there already
    unless it `may_be_new`. Raises StoreError.
    """
    if named is not None and not may_be_new and not named.exists():
        raise StoreError(f"there is no file of known cases at {named}", remedy="check the path")
    return SiteStore(named or default_store(path), bundle)


class SiteStore:
    """The site's cases in one file. Every method raises StoreError, with what to do about it."""

    def __init__(self, path: Path, bundle: Bundle) -> None:
        """Nothing is read or made yet. Raises BundleError where the bundle's model gives no embedding."""
        self.path = path
        self._bundle = bundle
        self._network = network_id(bundle.manifest)

    def add(self, data_sha256: str, codes: bytes, *, picture: str, label: str, note: str, thumbnail: bytes) -> SiteCase:
        """Add a case and make the file where there is none. It is on the disk when this returns.

        codes: the embedding's. thumbnail: a JPEG file, or nothing. A picture that is there already is not added again:
        check with `find` before.
        """
        added = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        row = (data_sha256, picture, label, note, added, self._bundle.sha256, codes, thumbnail)
        with self._writing(len(codes)) as connection:
            # Another program may have added it a moment ago: then that one stands.
            connection.execute(
                "INSERT OR IGNORE INTO cases"
                " (picture_sha256, picture, label, note, added, bundle_sha256, codes, thumbnail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
        found = self.find(data_sha256)
        assert found is not None, "what was committed is there"
        return found

    def remove(self, ids: Sequence[str]) -> None:
        """Remove these cases, or none of them where one is not there."""
        if not self.path.exists():
            raise StoreError(f"there is no case {ids[0]}: nothing was added yet", remedy="see `edge reference list`")
        with self._writing(None) as connection:
            for id_ in ids:
                if not connection.execute("DELETE FROM cases WHERE number = ?", (_number(id_),)).rowcount:
                    raise StoreError(
                        f"this site has no case {id_}; none was removed",
                        remedy="take the ids from `edge reference list`; the bundle's own cases cannot be removed",
                    )

    def find(self, picture_sha256: str) -> SiteCase | None:
        """The case of this very picture file; None where it was not added."""
        return next(iter(self._select("WHERE picture_sha256 = ?", picture_sha256)), None)

    def alike(self, codes: bytes) -> list[SiteCase]:
        """The cases whose embedding has these very codes."""
        return self._select("WHERE codes = ?", codes)

    def cases(self) -> list[SiteCase]:
        """All cases, in the order in which they were added."""
        return self._select("")

    def load(self, *, thumbnails: bool = False) -> Cases | None:
        """The cases to compare with; None where there are none. thumbnails: whether they are read too."""
        thumbnail = "thumbnail" if thumbnails else "x''"
        rows = self._rows(f"SELECT number, label, codes, {thumbnail}, channels FROM cases, store ORDER BY number")
        if not rows:
            return None
        channels = rows[0][4]
        if any(not isinstance(row[2], bytes) or len(row[2]) != channels for row in rows):
            raise _damaged(self.path)
        return Cases(
            codes=np.frombuffer(b"".join(row[2] for row in rows), np.uint8).reshape(len(rows), channels),
            ids=tuple(f"{PREFIX}{row[0]}" for row in rows),
            labels=tuple(str(row[1]) for row in rows),
            groups=("",) * len(rows),
            thumbnails=[row[3] for row in rows] if thumbnails else (),
        )

    def _select(self, where: str, *values: str | bytes) -> list[SiteCase]:
        columns = "number, label, picture, picture_sha256, note, added, bundle_sha256, length(thumbnail) > 0"
        return [
            SiteCase(
                id=f"{PREFIX}{row[0]}",
                label=str(row[1]),
                picture=str(row[2]),
                picture_sha256=str(row[3]),
                note=str(row[4]),
                added=str(row[5]),
                bundle_sha256=str(row[6]),
                has_thumbnail=bool(row[7]),
            )
            for row in self._rows(f"SELECT {columns} FROM cases {where} ORDER BY number", *values)
        ]

    def _rows(self, query: str, *values: str | bytes) -> list[Any]:
        """What a query gives; nothing where there is no file yet, or one that a killed program left empty."""
        if not self.path.exists():
            return []
        with _told(self.path), closing(self._read()) as connection:
            if _is_empty(connection):
                return []
            self._check(connection)
            return connection.execute(query, values).fetchall()

    def _read(self) -> sqlite3.Connection:
        """A connection to read by."""
        # Not `ro`: such a one could not take SQLite's helper files away again.
        connection = _connect(self.path, "rw")
        try:
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()
        except sqlite3.OperationalError as error:
            connection.close()
            if "locked" in str(error) or _log_of(self.path):
                raise
            # A folder that may not be written to: SQLite would make its helper files there. Nobody can be writing.
            connection = _connect(self.path, "ro&immutable=1")
        return connection

    @contextmanager
    def _writing(self, channels: int | None) -> Iterator[sqlite3.Connection]:
        """A transaction. channels: of the embeddings, where the file may have to be made."""
        if self.path.is_dir():
            raise StoreError(f"{self.path} is a folder", remedy="name a file with --store")
        with _told(self.path), closing(_connect(self.path, "rw" if channels is None else "rwc")) as connection:
            _use_write_ahead_log(connection)
            connection.execute("BEGIN IMMEDIATE")
            try:
                if channels is not None and _is_empty(connection):
                    self._make(connection, channels)
                self._check(connection)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _make(self, connection: sqlite3.Connection, channels: int) -> None:
        for statement in TABLES.split(";"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")
        name = self._bundle.manifest.name
        connection.execute("INSERT INTO store VALUES (?, ?, ?)", (self._network, name, channels))

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raise StoreError unless this is a store of cases of this very network."""
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != APPLICATION:
            raise StoreError(
                f"{self.path} is not a file of known cases", remedy="name another one with --store; this one is left"
            )
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        if schema != SCHEMA:
            raise StoreError(
                f"the schema of {self.path} is {schema}; this version reads schema {SCHEMA}",
                remedy="install the version of edge-screen that made it",
            )
        network, name = connection.execute("SELECT network, bundle FROM store").fetchone()
        if network != self._network:
            raise StoreError(
                f"the cases in {self.path} were embedded by another network (of the bundle {name}), so they cannot be "
                f"compared with what {self._bundle.manifest.name} sees",
                remedy="name another file with --store, and add the pictures again with this bundle",
            )


def _log_of(path: Path) -> int:
    """Bytes of the write-ahead log beside a store: what a killed or running program has not moved into it yet."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size
    except OSError:
        return 0


def _number(id_: str) -> int:
    """The row of a case. Of what is no id of ours: -1, which no row has."""
    digits = id_.removeprefix(PREFIX)
    return int(digits) if id_.startswith(PREFIX) and digits.isascii() and digits.isdigit() and len(digits) < 19 else -1


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=WAIT_S, isolation_level=None)


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """Readers are not kept waiting by a writer, and a killed writer leaves nothing half written."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            # Of a power cut too: a case that was said to be added is on the disk.
            connection.execute("PRAGMA synchronous = FULL")
        except sqlite3.OperationalError as error:
            # Two programs that change the mode at the same moment are refused without being made to wait.
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _is_empty(connection: sqlite3.Connection) -> bool:
    """Whether a file has no table: made just now, or by a program that was killed before it wrote one."""
    return not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """SQLite's errors as sentences."""
    try:
        yield
    except sqlite3.Error as error:
        reason = str(error)
        if "locked" in reason or "busy" in reason:
            raise StoreError(f"another program is writing to {path}", remedy="try again when it has ended") from None
        if "readonly" in reason or "unable to open" in reason:
            raise StoreError(
                f"{path} cannot be opened ({reason})", remedy="check the folder's rights, or name a file with --store"
            ) from None
        if "full" in reason or "disk I/O" in reason:
            raise StoreError(
                f"the disk did not take the case into {path} ({reason}); those before it are kept",
                remedy="free space, or check the disk",
            ) from None
        raise _damaged(path, reason) from None
    except (TypeError, ValueError):
        # A table of ours without its rows, or with others' values in it.
        raise _damaged(path) from None


def _damaged(path: Path, reason: str = "its rows are not those of a store") -> StoreError:
    return StoreError(
        f"{path} is damaged, or no file of known cases ({reason})",
        remedy="put back a copy of it, or name another with --store and add the pictures again",
    )
