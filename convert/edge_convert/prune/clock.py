"""Who says what int8 files cost: this machine, or a program that asks the device they are for.

`edge convert --clock "ssh pi@ADDRESS edge time - --json"` sends the files to a board; any program will do that reads a
tar archive of TFLite files and prints `edge_runtime.timing.Costs` as JSON, in time, instructions or joules.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from edge.errors import EdgeError
from edge.fields import FieldError, build
from edge_convert.progress import Progress, Steps, translate
from edge_runtime.timing import MICROSECONDS, Costs, pack_models, this_machine, time_models

TIMEOUT_S = 7200
START = """
import os, sys
from edge_runtime.delegates.child import die_with_parent
die_with_parent(int(sys.argv[1]))
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""


class Clock(Protocol):
    """Measures int8 files."""

    def measure(self, models: Sequence[bytes]) -> Steps[Costs]:
        """What an inference of each file costs, in turns; none at all says where and in which unit."""


class OwnClock:
    """This machine's."""

    def measure(self, models: Sequence[bytes]) -> Steps[Costs]:
        """Median microseconds of an inference by the thread's clock, one thread."""
        named = [(f"file {number} of {len(models)}", model) for number, model in enumerate(models, start=1)]
        costs = yield from translate(time_models(named), lambda far: Progress(done=far[0], total=far[1]))
        return Costs(machine=this_machine().key, unit=MICROSECONDS, costs=tuple(costs))


class ProgramClock:
    """A program's that is run for it: on this machine, or by ssh on a device."""

    def __init__(self, command: str) -> None:
        """command: as in a shell, but run without one. Raises EdgeError for one that cannot be read."""
        try:
            self._words = shlex.split(command)
        except ValueError as error:
            raise EdgeError(f"the clock {command!r} cannot be read: {error}", remedy="close its quotes") from None
        if not self._words:
            raise EdgeError("the clock is empty", remedy='name a program, such as "ssh pi@ADDRESS edge time - --json"')
        self._command = command
        self._asked: Costs | None = None

    def measure(self, models: Sequence[bytes]) -> Steps[Costs]:
        """Run the program. Raises EdgeError where it fails, or says something else than a cost for each file."""
        if self._asked and not models:
            return self._asked
        yield Progress(done=0, total=1, note=f"asking the clock about {len(models)} files" if len(models) > 2 else "")
        found = self._read(self._run(pack_models(models)), len(models))
        if self._asked and found.scale != self._asked.scale:
            raise self._failed(f"it was {self._asked.machine} at first, and is {found.machine} now")
        self._asked = replace(found, costs=())
        yield Progress(done=1, total=1)
        return found

    def _run(self, archive: bytes) -> bytes:
        """What the program prints."""
        # By way of a process of ours, which the kernel ends with this one: a board must not be left measuring.
        words = [sys.executable, "-c", START, str(os.getpid()), *self._words]
        try:
            done = subprocess.run(words, input=archive, capture_output=True, check=False, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise self._failed(f"it has said nothing for {TIMEOUT_S // 60} minutes") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            # `edge time` ends with a remedy for whoever typed it.
            facts = [line.removeprefix("error: ") for line in said if line.startswith("error: ")] or said
            raise self._failed(facts[-1][:300] if facts else f"exit status {done.returncode}")
        return done.stdout

    def _read(self, printed: bytes, files: int) -> Costs:
        try:
            found = build(Costs, json.loads(printed))
        except (ValueError, FieldError, RecursionError) as error:
            shown = printed[:80].decode(errors="replace")
            raise self._failed(f"it printed no costs but {shown!r} ({str(error)[:200]})") from None
        if len(found.costs) != files:
            raise self._failed(f"{len(found.costs)} costs for {files} files")
        if not all(cost > 0 for cost in found.costs):
            raise self._failed("a file that costs nothing")
        return found

    def _failed(self, why: str) -> EdgeError:
        return EdgeError(
            f"the clock `{self._command}` failed: {why}",
            remedy="try it by hand: tar -c FILE.tflite | COMMAND; the build goes on where it is with the same --clock",
        )
