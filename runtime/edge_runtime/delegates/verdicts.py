"""Verdicts on delegates, kept between runs: a file each, named by all that the verdict depends on."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path

from edge.bundle import Bundle
from edge.fields import plain
from edge_runtime import kept as findings
from edge_runtime.delegates import DELEGATES, Job
from edge_runtime.delegates.trial import Trial
from edge_runtime.interpreters import version_of

KIND = "delegates"


def folder() -> Path:
    """Where the verdicts lie. Raises OSError for a user without a cache folder."""
    return findings.folder(KIND)


def key(job: Job, bundle: Bundle) -> str:
    """All that a verdict depends on: model, promises, delegate and options, packages, drivers, processor, threads."""
    return findings.key(
        {
            "model": hashlib.sha256(job.model).hexdigest(),
            "entry": plain(job.entry),
            "golden": [bundle.manifest.parts[golden.picture].sha256 for golden in bundle.manifest.golden],
            "tolerances": dict(bundle.manifest.tolerances),
            "delegate": [job.kind, job.library, list(job.options)],
            "driver": importlib.import_module(DELEGATES[job.kind]).driver(job),
            "package": [job.interpreter, version_of(job.interpreter)],
            "threads": job.threads,
        }
    )


def kept(name: str) -> Trial | None:
    """The verdict of that key, or None where there is none that can be read."""
    return findings.read(KIND, name, Trial)


def keep(name: str, trial: Trial) -> str:
    """Keep a verdict; returns why it could not be kept, else "". The next run then tries again."""
    return findings.write(KIND, name, trial)
