"""Verdicts on delegates, kept between runs: a file each, named by all that the verdict depends on."""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
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

log = logging.getLogger(__name__)


def folder() -> Path:
    """Where the verdicts lie: `edge-screen/delegates` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
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


def keep(name: str, trial: Trial) -> None:
    """Keep a verdict. Where it cannot be kept, the next run tries again, and the log says so."""
    try:
        folder().mkdir(parents=True, exist_ok=True)
        write_atomically(folder() / f"{name}.json", json.dumps(plain(trial), indent=1).encode())
    except OSError as error:
        log.warning("verdict=not-kept delegate=%s reason=%s", trial.delegate, error)
