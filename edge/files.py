"""Files read and written safely: never half of one, and never a pipe or a device that does not end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give an OSError that names no file this one: a full disk is found while bytes are written, and names none."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file in one step: afterwards it holds either all of `data` or what was there before.

    The bytes go to a file beside it, reach the disk, and only then take the name. Raises OSError; what was written
    until then is removed. The rights are those of any new file, as the umask has it.
    """
    import secrets  # here: whoever only reads does not wait for it

    # A name of its own, so that two writers do not write into one another's file.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with naming(path):
            write_durably(partial, data)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file whose bytes have reached the disk afterwards. Raises OSError, also where there is one."""
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def read_ordinary(path: Path) -> bytes:
    """All of a file's bytes. Raises OSError, also for a pipe or a device: those may never end."""
    # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as stream:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "a pipe or device, not a file", str(path))
        return stream.read()


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal, whatever its size. Raises OSError."""
    import hashlib  # here, as above

    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            sha.update(block)
    return sha.hexdigest()
