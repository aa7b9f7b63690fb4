"""Files that are whole or not there: a reader never sees half of one, whatever happens to the writer."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file in one step: afterwards it holds either all of `data` or what was there before.

    The bytes go to a file beside it, reach the disk, and only then take the name. Raises OSError; what was written
    until then is removed. The rights are those of any new file, as the umask has it.
    """
    # A name of its own, so that two writers do not write into one another's file.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
