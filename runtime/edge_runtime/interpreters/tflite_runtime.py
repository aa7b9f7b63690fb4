"""tflite-runtime: the only wheel for 32-bit ARM. Its last version is 2.14, for Python up to 3.11."""

from __future__ import annotations

import importlib

import numpy as np

from edge_runtime.interpreters import Package

NAME = "tflite-runtime"


def load() -> Package:
    """The package. Raises ImportError, also with numpy 2: there it imports, and fails when a model is loaded."""
    module = importlib.import_module("tflite_runtime.interpreter")
    if int(np.__version__.split(".")[0]) >= 2:
        raise ImportError(f"it needs numpy below 2, and {np.__version__} is installed (pip install 'numpy<2')")
    return Package(
        name=NAME,
        interpreter=module.Interpreter,
        load_delegate=module.load_delegate,
    )
