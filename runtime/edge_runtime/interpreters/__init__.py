"""The TFLite interpreter packages, one file each: which are here, and the one that is used.

A table of name -> module, as text, so that nothing is imported that is not used. A module gives `MODULE`, the
package's own module, and `load()`, which returns a `Package` or raises ImportError with the reason.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from edge.errors import InterpreterError
from edge.frozen import dataclass

# Tried in this order: the fast one, what armv7l has, and a workstation's last resort (15 s to import, 600 MB).
INTERPRETERS = {
    "ai-edge-litert": "edge_runtime.interpreters.litert",
    "tflite-runtime": "edge_runtime.interpreters.tflite_runtime",
    "tensorflow": "edge_runtime.interpreters.tensorflow",
}


VERIFIED_WITH = "ai-edge-litert"
"""What builds take a bundle's golden outputs from. Another package is held against them before it screens: trial.py."""

UNVERIFIED = "unverified=yes"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What `--interpreter` asks for. name: None takes the first that is here. unverified: whatever numbers it gives."""

    name: str | None
    unverified: bool


@dataclass(frozen=True, kw_only=True)
class Package:
    """An interpreter package that could be loaded.

    interpreter: its class `Interpreter`. load_delegate: (library, options) -> a delegate for that class.
    """

    name: str
    interpreter: Any
    load_delegate: Callable[..., Any]


def parse_choice(text: str | None) -> Choice:
    """`NAME` or `NAME,unverified=yes`. Raises InterpreterError."""
    name, *options = (text or "").split(",")
    if options not in ([], [UNVERIFIED]):
        raise InterpreterError(
            f"the interpreter's options in {text!r} cannot be read", remedy=f"write NAME or NAME,{UNVERIFIED}"
        )
    return Choice(name=name or None, unverified=bool(options))


def find(name: str | None = None) -> Package:
    """The named package, or the first of the table that can be loaded. Raises InterpreterError with every reason."""
    if name is not None and name not in INTERPRETERS:
        raise InterpreterError(
            f"there is no interpreter {name!r}", remedy=f"use one of: {', '.join(INTERPRETERS)}, or leave it out"
        )
    reasons = []
    for candidate in INTERPRETERS if name is None else (name,):
        found = load(candidate)
        if isinstance(found, Package):
            return found
        # An installed package that cannot be loaded (an old C library, say) must not look like an absent one.
        reasons.append(f"{candidate}: {found}")
    if name is not None:
        raise InterpreterError(
            f"the interpreter {reasons[0]}", remedy=f"install it (pip install {name}), or leave --interpreter out"
        )
    raise InterpreterError(
        f"no TFLite interpreter can be loaded here ({'; '.join(reasons)})",
        remedy="install edge-screen with its dependencies: pip install edge-screen",
    )


def load(name: str) -> Package | str:
    """The package of that name in the table, or why it cannot be loaded."""
    try:
        found = importlib.import_module(INTERPRETERS[name]).load()
    except ImportError as error:
        return str(error)
    assert isinstance(found, Package)
    return found


def version_of(name: str) -> str | None:
    """The installed version of a distribution, without loading it; None where it is not installed."""
    # Its import takes as long as the rest of this module: only who asks for a version pays.
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
