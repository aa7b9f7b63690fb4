"""The process of one case: an ordinary build whose events go to the sweep that started it.

In: a line of JSON, the job. Out: a line of JSON each: `stage` with how far it is, then `done` or `failed`. What a build
says, and what libraries print, goes to standard error, which is the case's log.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge.errors import EdgeError, GateError
from edge.fields import build
from edge_convert import pipeline
from edge_convert.builder import StageEvent
from edge_convert.progress import finish
from edge_convert.recipe import Recipe
from edge_convert.run_folder import RunFolder
from edge_runtime.delegates.child import die_with_parent
from edge_runtime.machine import peak_bytes

SHOWN_EVERY_S = 0.5
Send = Callable[[dict[str, Any]], None]


def main() -> None:
    """Build what standard input says; exit status 0 also where a gate is missed, which is a result."""
    die_with_parent(os.getppid())
    # Libraries print to the standard output as they like: events go where they cannot.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(words: dict[str, Any]) -> None:
        replies.write(json.dumps(words) + "\n")
        replies.flush()

    job = json.loads(sys.stdin.buffer.readline())
    try:
        _build(job, send)
    except EdgeError as error:
        send({"failed": error.message, "remedy": error.remedy})
    except MemoryError:
        send({"failed": "out of memory", "remedy": "build fewer at a time with --jobs, or a smaller network"})
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        reason = f"{where}{error.strerror or error}"
        send({"failed": reason, "remedy": "check the path, the free space and the rights"})


def _build(job: dict[str, Any], send: Send) -> None:
    recipe, out = build(Recipe, job["recipe"]), Path(job["out"])
    with RunFolder.opened(out) as folder:
        for stage, other in job["shared"].items():
            folder.adopt(stage, RunFolder(Path(other)))
    options = {name: job[name] for name in ("leaks", "group_pattern", "clock")}
    # The sweep knows whose folder it is.
    steps = pipeline.convert(recipe, Path(job["data"]), out, replace=True, **options)
    last = ("", 0.0)

    def tell(event: StageEvent) -> None:
        nonlocal last
        progress = event.progress
        if event.stage == last[0] and not (progress and progress.note) and time.monotonic() - last[1] < SHOWN_EVERY_S:
            return
        last = event.stage, time.monotonic()
        done, total, note = (progress.done, progress.total, progress.note) if progress else (0, 0, "")
        if note:
            click.echo(f"{event.stage}: {note}", err=True)
        send({"stage": event.stage, "reused": event.reused, "done": done, "total": total, "note": note})

    try:
        finish(steps, tell)
    except GateError as error:
        click.echo(error.message, err=True)
        send({"done": "gate missed", "peak_mb": _peak_mb()})
    else:
        send({"done": "built", "peak_mb": _peak_mb()})


def _peak_mb() -> float | None:
    peak = peak_bytes()
    return None if peak is None else peak / 1e6


if __name__ == "__main__":
    main()
