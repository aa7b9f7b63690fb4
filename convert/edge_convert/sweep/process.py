"""A case's process as its sweep sees it: started, listened to, ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge.fields import plain
from edge_convert.sweep.grid import Case

LOG = "log.txt"
Heard = tuple[str, dict[str, Any] | None]
"""The case's name and what its process said; None where it has ended."""


class CaseProcess:
    """One build in a process of its own, which ends with this one, however that ends."""

    def __init__(
        self, case: Case, folder: Path, source: dict[str, Any], shared: dict[str, Path], heard: queue.Queue[Heard]
    ) -> None:
        """source: where the pictures are and how they are read. shared: by stage, a build that has made the same one.

        heard: gets what the process says, and at its end None.
        """
        self.case, self.folder = case, folder
        self.outcome: dict[str, Any] = {}
        job = {
            "recipe": plain(case.recipe),
            "out": str(folder),
            "shared": {stage: str(build) for stage, build in shared.items()},
            **source,
        }
        with (folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_convert.sweep.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                # Ctrl-C is for the sweep, which then ends its builds.
                start_new_session=True,
            )
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already, and `failure` will say how
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            self._process.stdin.close()

    def _listen(self, heard: queue.Queue[Heard]) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):  # half a line of a process that was killed
                heard.put((self.case.name, json.loads(line)))
        heard.put((self.case.name, None))

    @property
    def resident_bytes(self) -> int:
        """What it holds in memory now; 0 where the machine does not tell."""
        try:
            pages = int(Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError, ValueError):
            return 0
        return pages * os.sysconf("SC_PAGE_SIZE")

    def failure(self) -> str:
        """Why a process ended that said neither that it was done nor what had failed."""
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return "it was killed (signal 9), as the kernel does when memory runs out"
        if status < 0:
            return f"it was ended by signal {-status} ({signal.Signals(-status).name})"
        return f"it crashed with exit status {status}; {self.folder / LOG} says more"

    def end(self) -> None:
        """End it at once: a build goes on from any moment."""
        # The group that it leads: a program that it has started as its clock too.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
