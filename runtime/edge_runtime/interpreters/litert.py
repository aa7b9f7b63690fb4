"""ai-edge-litert: the fast CPU engine on x86-64 and aarch64.

Its `Interpreter` is pure CPU. `CompiledModel`, in the same package, loads the GPU library even for the CPU, and that
library ends the process on processors without its instructions: it is used in delegates/gpu.py alone.
"""

from __future__ import annotations

import importlib

from edge_runtime.interpreters import Package

NAME = "ai-edge-litert"


def load() -> Package:
    """The package. Raises ImportError."""
    module = importlib.import_module("ai_edge_litert.interpreter")
    return Package(
        name=NAME,
        interpreter=module.Interpreter,
        load_delegate=module.load_delegate,
    )
