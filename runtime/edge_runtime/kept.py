"""What was found out on this machine, kept between runs in the user's cache folder: a file each, named by its key."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from edge import __version__
from edge.fields import FieldError, build, plain
from edge.files import write_atomically
from edge_runtime.machine import cpu_features, cpu_model, machine_kind

T = TypeVar("T")


def folder(kind: str) -> Path:
    """Where findings of that kind lie, below the user's cache folder. Raises OSError for a user without."""
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, str(error)) from None
    return Path(root) / "edge-screen" / kind


def key(facts: Mapping[str, Any]) -> str:
    """The name of a finding that depends on these facts, on this version and on the processor."""
    depends = {**facts, "edge": __version__, "cpu": [machine_kind(), cpu_model(), sorted(cpu_features())]}
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def read(kind: str, name: str, cls: type[T]) -> T | None:
    """The finding of that key, or None where there is none that can be read."""
    try:
        return build(cls, json.loads((folder(kind) / f"{name}.json").read_bytes()))
    except (OSError, ValueError, FieldError):
        return None


def write(kind: str, name: str, record: Any) -> str:
    """Keep a finding; returns why it could not be kept, else "". The next run then finds out again."""
    try:
        folder(kind).mkdir(parents=True, exist_ok=True)
        write_atomically(folder(kind) / f"{name}.json", json.dumps(plain(record), indent=1).encode())
    except OSError as error:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return ""
