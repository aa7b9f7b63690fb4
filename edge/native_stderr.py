"""What the C and C++ libraries write to the error stream, past Python: collected, judged, passed on.

Decoders say there, and nowhere else, that a picture is damaged; others only chat.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

CHATTER = (
    "INFO: ",
    "I0000 ",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "WARNING: Attempting to use a delegate that only supports static-sized tensors",
    "fully_quantize: ",
)
# On a workstation without a GPU, TensorFlow calls its absence an error.
NO_GPU = "failed call to cuInit"
# There is one error stream a process: who diverts it must be alone.
_alone = threading.RLock()


@contextmanager
def collected_stderr() -> Iterator[list[str]]:
    """The lines that are written to file descriptor 2 meanwhile, in the list once the block has ended."""
    lines: list[str] = []
    with _alone:
        try:
            saved = os.dup(2)
        except OSError:
            # The process has no error stream at all.
            yield lines
            return
        collected = _temporary_file()
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(collected, 2)
        try:
            yield lines
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            size = os.lseek(collected, 0, os.SEEK_CUR)
            lines += os.pread(collected, size, 0).decode("utf-8", "replace").splitlines()
            os.close(collected)


@contextmanager
def without_chatter() -> Iterator[None]:
    """Pass on what is written meanwhile, late but whole, less the lines that are known chatter."""
    lines: list[str] = []
    try:
        with collected_stderr() as lines:
            yield
    finally:
        for line in lines:
            if not line.startswith(CHATTER) and NO_GPU not in line:
                # A full or closed error stream is no reason to lose a verdict.
                with suppress(OSError):
                    os.write(2, f"{line}\n".encode())


def _temporary_file() -> int:
    """A file descriptor of a file that is gone when closed; in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    import tempfile  # here: it loads a dozen modules that Linux does not need

    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
