"""Keep the C++ libraries' chatter off the error stream, and nothing else.

They write to the file descriptor itself, past Python. What is not known chatter is passed on, late but whole.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

CHATTER = (
    "INFO: ",
    "I0000 ",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "WARNING: Attempting to use a delegate that only supports static-sized tensors",
    "fully_quantize: ",
)
# On a workstation without a GPU, TensorFlow calls its absence an error.
NO_GPU = "failed call to cuInit"


@contextmanager
def without_chatter() -> Iterator[None]:
    """Collect what is written to the error stream meanwhile; afterwards pass on the lines that are not chatter."""
    try:
        saved = os.dup(2)
    except OSError:
        # The process has no error stream at all.
        yield
        return
    with tempfile.TemporaryFile() as collected:
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(collected.fileno(), 2)
        try:
            yield
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            collected.seek(0)
            for line in collected.read().decode("utf-8", "replace").splitlines(keepends=True):
                if not line.startswith(CHATTER) and NO_GPU not in line:
                    os.write(2, line.encode())
