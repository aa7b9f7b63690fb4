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
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

import numpy as np

from edge.bundle import Bundle
from edge.errors import PictureError, StoreError
from edge.frozen import dataclass
from edge.names import printable
from edge.reference import Cases, network_id

SUFFIX = ".cases.db"
APPLICATION = 0x45444745
"""What SQLite's header calls the program that a file belongs to; here the letters EDGE."""
SCHEMA = 1
PREFIX = "site-"
WAIT_S = 10.0
SAME_PICTURE, SAME_CODES = "WHERE picture_sha256 = ?", "WHERE codes = ?"
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

    def add(
        self, data_sha256: str, codes: bytes, *, picture: str, label: str, note: str, thumbnail: bytes
    ) -> tuple[SiteCase, bool]:
        """Add a case and make the file where there is none. It is on the disk when this returns.

        codes: the embedding's. thumbnail: a JPEG file, or nothing. Returns the case, and whether it is new: a picture
        that is there already with this label is not added again. Raises PictureError where it is there with another
        one, or where a case of another label has the same embedding.
        """
        added = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        row = (data_sha256, picture, label, note, added, self._bundle.sha256, codes, thumbnail)
        with self._writing(len(codes)) as connection:
            # Asked here, where no other program can write, whatever was asked before: another one may have added it,
            # or one that contradicts it, a moment ago.
            there = _of_this_label(self._select(connection, SAME_PICTURE, data_sha256), label)
            if there is not None:
                return there, False
            _require_no_contrary(self._select(connection, SAME_CODES, codes), label)
            connection.execute(
                "INSERT INTO cases (picture_sha256, picture, label, note, added, bundle_sha256, codes, thumbnail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                row,
            )
            (case,) = self._select(connection, SAME_PICTURE, data_sha256)
        return case, True

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

    def find(self, picture_sha256: str, label: str) -> SiteCase | None:
        """The case of this very picture file; None where it was not added. Raises PictureError where it is there with
        another label.
        """
        return _of_this_label(self._read_cases(SAME_PICTURE, picture_sha256), label)

    def require_no_contrary(self, codes: bytes, label: str) -> None:
        """Raise PictureError where a case of another label has the very same embedding: one of the two is wrong, and
        both would be shown to whoever asks for what is known of such a picture. `add` asks again.
        """
        _require_no_contrary(self._read_cases(SAME_CODES, codes), label)

    def cases(self) -> list[SiteCase]:
        """All cases, in the order in which they were added, whatever network embedded them."""
        return self._read_cases("", comparing=False)

    def embedded_by(self) -> str | None:
        """The name of the bundle whose other network embedded the cases; None where it was this bundle's own."""
        with self._reading(comparing=False) as connection:
            if connection is None:
                return None
            network, name = connection.execute("SELECT network, bundle FROM store").fetchone()
        return None if network == self._network else str(name)

    def load(self, *, thumbnails: bool = False) -> Cases | None:
        """The cases to compare with; None where there are none. thumbnails: whether they are read too."""
        # Where they are not wanted they are not read, but what is none is still told.
        thumbnail = "thumbnail" if thumbnails else "iif(typeof(thumbnail) = 'blob', x'', NULL)"
        query = f"SELECT number, label, codes, {thumbnail}, channels FROM cases, store ORDER BY number"
        with self._reading() as connection:
            rows = [] if connection is None else connection.execute(query).fetchall()
        if not rows:
            return None
        channels = rows[0][4]
        for _, label, codes, data, _ in rows:
            if not (_is_label(label) and isinstance(data, bytes) and isinstance(codes, bytes)):
                raise _damaged(self.path)
            if len(codes) != channels:
                raise _damaged(self.path)
        return Cases(
            codes=np.frombuffer(b"".join(row[2] for row in rows), np.uint8).reshape(len(rows), channels),
            ids=tuple(f"{PREFIX}{row[0]}" for row in rows),
            labels=tuple(row[1] for row in rows),
            groups=("",) * len(rows),
            thumbnails=[row[3] for row in rows] if thumbnails else (),
        )

    def _read_cases(self, where: str, *values: str | bytes, comparing: bool = True) -> list[SiteCase]:
        with self._reading(comparing=comparing) as connection:
            return [] if connection is None else self._select(connection, where, *values)

    def _select(self, connection: sqlite3.Connection, where: str, *values: str | bytes) -> list[SiteCase]:
        """The cases that a condition holds for. Raises StoreError for one that no version of ours has written."""
        texts = "label, picture, picture_sha256, note, added, bundle_sha256"
        query = f"SELECT number, typeof(thumbnail), length(thumbnail), {texts} FROM cases {where} ORDER BY number"
        cases = []
        for number, kind, size, *row in connection.execute(query, values):
            if kind != "blob" or not all(isinstance(text, str) for text in row) or not _is_label(row[0]):
                raise _damaged(self.path)
            label, picture, picture_sha256, note, added, bundle_sha256 = row
            cases.append(
                SiteCase(
                    id=f"{PREFIX}{number}",
                    label=label,
                    picture=picture,
                    picture_sha256=picture_sha256,
                    note=note,
                    added=added,
                    bundle_sha256=bundle_sha256,
                    has_thumbnail=size > 0,
                )
            )
        return cases

    @contextmanager
    def _reading(self, *, comparing: bool = True) -> Iterator[sqlite3.Connection | None]:
        """A connection to a store; None where there is no file yet, or one that a killed program left empty.

        comparing: whether the embeddings are wanted, which must be this network's then.
        """
        if not self.path.exists():
            yield None
            return
        _require_ordinary(self.path)
        with _told(self.path), closing(self._read()) as connection:
            if _is_empty(connection):
                yield None
            else:
                self._check(connection, comparing=comparing)
                yield connection

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
        _require_ordinary(self.path)
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

    def _check(self, connection: sqlite3.Connection, *, comparing: bool = True) -> None:
        """Raise StoreError unless this is a store of cases, and of this very network where they are compared."""
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
        if comparing and network != self._network:
            raise StoreError(
                f"the cases in {self.path} were embedded by another network (of the bundle {name}), so they cannot be "
                f"compared with what {self._bundle.manifest.name} sees",
                remedy="name another file with --store, and add the pictures again with this bundle; `edge reference "
                "list` shows them",
            )


def _of_this_label(cases: Sequence[SiteCase], label: str) -> SiteCase | None:
    """The case of a picture, out of at most one. Raises PictureError where it has another label."""
    for case in cases:
        if case.label != label:
            raise _contrary(f"it is there already as {case.id}, and as {case.label}", case.id)
        return case
    return None


def _require_no_contrary(cases: Sequence[SiteCase], label: str) -> None:
    """cases: those whose embedding a picture has too. Raises PictureError where one has another label."""
    for case in cases:
        if case.label != label:
            raise _contrary(f"the network sees no difference to {case.id}, which is {case.label}", case.id)


def _contrary(fact: str, id_: str) -> PictureError:
    return PictureError(fact, remedy=f"if that was wrong, run `edge reference remove` for {id_} first")


def _is_label(value: object) -> bool:
    """Whether it can be a label: text that a terminal shows as it is."""
    return isinstance(value, str) and printable(value) == value


def _require_ordinary(path: Path) -> None:
    """Raise StoreError where no store is or can be made, in better words than SQLite's."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder", remedy="name a file with --store")
    if path.exists() and not path.is_file():
        raise StoreError(f"{path} is no ordinary file", remedy="name another with --store")
    if not path.parent.is_dir():
        raise StoreError(
            f"{path} cannot be made: there is no folder {path.parent}", remedy="make it, or check the path in --store"
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


def _begins_as_database(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(16) == b"SQLite format 3\0"


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
        if "not a database" in reason and not _begins_as_database(path):
            raise StoreError(f"{path} is no file of known cases", remedy="name another with --store") from None
        raise _damaged(path, reason) from None
    except (TypeError, ValueError):
        # A table of ours without its rows, or with others' values in it.
        raise _damaged(path) from None


def _damaged(path: Path, reason: str = "its rows are not those of a store") -> StoreError:
    return StoreError(
        f"{path} is damaged, or no file of known cases ({reason})",
        remedy="put back a copy of it, or name another with --store and add the pictures again",
    )
