"""Who says what int8 files cost: this machine, or a program that asks the device they are for.

`edge convert --clock "ssh pi@ADDRESS edge time - --json"` sends the files to a board; any program will do that reads a
tar archive of TFLite files and prints `edge_runtime.timing.Costs` as JSON, in time, instructions or joules.
"""

from __future__ import annotations

import json
import math
import shlex
import subprocess
from collections.abc import Sequence
from typing import Protocol

from edge.errors import EdgeError
from edge.fields import FieldError, build
from edge_convert.progress import Progress, Steps, translate
from edge_runtime.timing import MICROSECONDS, Costs, pack_models, this_machine, time_models


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

    def measure(self, models: Sequence[bytes]) -> Steps[Costs]:
        """Run the program. Raises EdgeError where it fails, or says something else than a cost for each file."""
        yield Progress(done=0, total=1)
        try:
            done = subprocess.run(self._words, input=pack_models(models), capture_output=True, check=False)
        except OSError as error:
            raise self._failed(error.strerror or str(error)) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise self._failed(said.splitlines()[-1][:300] if said else f"exit status {done.returncode}")
        try:
            found = build(Costs, json.loads(done.stdout))
        except (ValueError, FieldError, RecursionError) as error:
            raise self._failed(f"it printed no costs: {str(error)[:300]}") from None
        if len(found.costs) != len(models) or not all(0 < cost < math.inf for cost in found.costs):
            raise self._failed(f"{len(models)} files are to cost something, and it printed {len(found.costs)} costs")
        yield Progress(done=1, total=1)
        return found

    def _failed(self, why: str) -> EdgeError:
        return EdgeError(
            f"the clock `{self._command}` failed: {why}",
            remedy="try it by hand: tar -c FILE.tflite | COMMAND; the build goes on where it is with the same --clock",
        )


def clock_of(command: str) -> Clock:
    """The clock that a command line names: this machine's for an empty one."""
    return ProgramClock(command) if command else OwnClock()
