"""The CPU: the interpreter with XNNPACK. It is the reference, needs no trial and is never refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edge_runtime.delegates import Job
from edge_runtime.interpreter import Network
from edge_runtime.interpreters import Package, find


def refusal(_: Job) -> str | None:
    """Never."""
    return None


def driver(_: Job) -> str:
    """None but the package."""
    return ""


def proof(_: Job, __: Sequence[str]) -> str:
    """Nothing to prove."""
    return "cpu"


def open_network(job: Job) -> Network:
    """The network on the CPU."""
    return network_on(job, find(job.interpreter))


def network_on(job: Job, package: Package, *delegates: Any) -> Network:
    """The job's network on a package's interpreter. delegates: loaded by that package; none means the CPU."""
    return Network(
        job.entry,
        job.model,
        side_px=job.side_px,
        classes=job.classes,
        channels=job.channels,
        threads=job.threads,
        package=package,
        delegates=delegates,
    )
