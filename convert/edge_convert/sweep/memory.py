"""How many builds this machine has room for."""

from __future__ import annotations

import os
from pathlib import Path

from edge_runtime.machine import memory_mb

CORES_A_BUILD = 4
"""A build's training uses several cores well; beside a second build on the same ones neither is sooner done."""

ASSUMED_BYTES = 4_000_000_000
"""Of a build, until one has been seen to its end."""


def most_builds() -> int:
    """How many builds at a time the processors are enough for. A GPU has its memory for one."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return 1
    return max(1, len(os.sched_getaffinity(0)) // CORES_A_BUILD)


def free_bytes() -> int:
    """Memory that is to be had without swapping, of the machine or of the container, whichever is less."""
    of_machine = memory_mb()
    found = [] if of_machine is None else [of_machine[1] * 10**6]
    limit, used = _text("/sys/fs/cgroup/memory.max").strip(), _text("/sys/fs/cgroup/memory.current").strip()
    if limit.isdigit() and used.isdigit():
        # What files left in memory is given up for the asking.
        given_up = [
            line.split()[1] for line in _text("/sys/fs/cgroup/memory.stat").splitlines() if "inactive_file" in line
        ]
        found.append(int(limit) - int(used) + sum(map(int, given_up[:1])))
    return min(found, default=0)


def room_for_another(running: list[int], largest: int | None) -> bool:
    """Whether one more build fits beside those that run, all of which may still grow.

    running: bytes that each holds now. largest: that a finished one has held; None where none has finished.
    """
    need = largest or ASSUMED_BYTES
    return free_bytes() - sum(max(0, need - held) for held in running) >= need


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
