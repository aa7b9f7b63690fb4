"""TensorFlow's own interpreter: the last resort, on a workstation that has nothing lighter."""

from __future__ import annotations

import importlib
import warnings

from edge.native_stderr import without_chatter
from edge_runtime.interpreters import Package

NAME = "tensorflow"


def load() -> Package:
    """The package. Raises ImportError."""
    # Google's word to its own users, who have LiteRT: it is what is tried first here, too.
    warnings.filterwarnings("ignore", message=r"\s*Warning: tf\.lite\.Interpreter is deprecated")
    with without_chatter():
        lite = importlib.import_module(NAME).lite
        return Package(
            name=NAME,
            interpreter=lite.Interpreter,
            load_delegate=lite.experimental.load_delegate,
        )
