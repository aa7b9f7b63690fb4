"""Verdicts on delegates, kept between runs: a file each, named by all that the verdict depends on."""

from __future__ import annotations

import errno
import hashlib
import importlib
import json
import os
from pathlib import Path

from edge import __version__
from edge.bundle import Bundle
from edge.fields import FieldError, build, plain
from edge.files import write_atomically
from edge_runtime.delegates import DELEGATES, Job
from edge_runtime.delegates.trial import Trial
from edge_runtime.interpreters import version_of
from edge_runtime.machine import cpu_features, cpu_model, machine_kind


def folder() -> Path:
    """Where the verdicts lie: `edge-screen/delegates` in the user's cache folder. Raises OSError for a user without."""
    try:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError as error:
        raise FileNotFoundError(errno.ENOENT, str(error)) from None
    return Path(root) / "edge-screen/delegates"


def key(job: Job, bundle: Bundle) -> str:
    """All that a verdict depends on: model, promises, delegate and options, packages, drivers, processor, threads."""
    facts = {
        "edge": __version__,
        "model": hashlib.sha256(job.model).hexdigest(),
        "entry": plain(job.entry),
        "golden": [bundle.manifest.parts[golden.picture].sha256 for golden in bundle.manifest.golden],
        "tolerances": dict(bundle.manifest.tolerances),
        "delegate": [job.kind, job.library, list(job.options)],
        "driver": importlib.import_module(DELEGATES[job.kind]).driver(job),
        "package": [job.interpreter, version_of(job.interpreter)],
        "cpu": [machine_kind(), cpu_model(), sorted(cpu_features()), job.threads],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def kept(name: str) -> Trial | None:
    """The verdict of that key, or None where there is none that can be read."""
    try:
        return build(Trial, json.loads((folder() / f"{name}.json").read_bytes()))
    except (OSError, ValueError, FieldError):
        return None


def keep(name: str, trial: Trial) -> str:
    """Keep a verdict; returns why it could not be kept, else "". The next run then tries again."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_atomically(folder() / f"{name}.json", json.dumps(plain(trial), indent=1).encode())
    except OSError as error:
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return ""
