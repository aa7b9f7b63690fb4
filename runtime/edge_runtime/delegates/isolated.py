"""A delegate in a process of its own, as the parent sees it: an engine whose every wait has an end."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from edge_runtime.delegates import DelegateFailure, Job
from edge_runtime.delegates.child import ANSWER, FAILED, HEADER, LENGTH, READY

KILL_WAIT_S = 2.0
CHUNK = 1 << 20


class Isolated:
    """A delegate's child process. Made once, used for many pictures, by one thread; close it."""

    def __init__(
        self, job: Job, shapes: dict[str, tuple[int, ...]], *, start_limit_s: float, picture_limit_s: float
    ) -> None:
        """Start the child and let it load the delegate. shapes: of each output, without the batch axis.

        Raises DelegateFailure where it refuses, crashes or is not ready after `start_limit_s`.
        """
        self.picture_limit_s = picture_limit_s
        self._roles = {role: shapes[role] for role in job.entry.outputs}
        self._answer: dict[str, NDArray[np.float32]] = {}
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the child
        # The child imports what this process would: no folder that happens to be current, no other installation.
        program = f"import sys; sys.path[:] = {sys.path!r}; from edge_runtime.delegates.child import main; main()"
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise DelegateFailure(f"its process cannot be started ({error.strerror})") from None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._pictures, self._replies = self._child.stdin.fileno(), self._child.stdout.fileno()
        os.set_blocking(self._pictures, False)
        deadline = time.monotonic() + start_limit_s
        try:
            packed = pickle.dumps(job)
            self._send(LENGTH.pack(len(packed)) + packed, deadline)
            self._receive(READY, deadline)
        except BaseException:
            self.close()
            raise

    def run(self, picture: NDArray[np.uint8]) -> None:
        """Run the network on a picture (side_px, side_px, channels) and read every output. Raises DelegateFailure."""
        self._answer = {}
        deadline = time.monotonic() + self.picture_limit_s
        try:
            self._send(np.ascontiguousarray(picture).tobytes(), deadline)
            numbers = np.frombuffer(self._receive(ANSWER, deadline), "<f4")
        except DelegateFailure:
            self.close()
            raise
        sizes = [int(np.prod(shape)) for shape in self._roles.values()]
        if len(numbers) != sum(sizes):
            self.close()
            raise DelegateFailure("it gave outputs of another size")
        if not np.isfinite(numbers).all():
            self.close()
            raise DelegateFailure("it gave what is no number")
        parts = np.split(numbers, np.cumsum(sizes)[:-1])
        self._answer = {
            role: part.reshape(shape) for (role, shape), part in zip(self._roles.items(), parts, strict=True)
        }

    def output(self, role: str) -> NDArray[np.float32]:
        """The output of the last run, real-valued float32, without the batch axis."""
        return self._answer[role]

    def outputs(self) -> dict[str, NDArray[np.float32]]:
        """All outputs of the last run."""
        return dict(self._answer)

    def said(self) -> list[str]:
        """The lines that the child has written to its error stream so far."""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), min(size, CHUNK), 0).decode("utf-8", "replace").splitlines()

    def close(self) -> None:
        """End the child, whatever it is doing. A process that even SIGKILL cannot end is left behind."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(KILL_WAIT_S)
        for stream in (self._child.stdin, self._child.stdout):
            if stream is not None:
                stream.close()

    def _send(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait([], [self._pictures], deadline)
            try:
                view = view[os.write(self._pictures, view[:CHUNK]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise DelegateFailure(self._death()) from None

    def _receive(self, wanted: bytes, deadline: float) -> bytes:
        kind, length = HEADER.unpack(self._read(HEADER.size, deadline))
        if kind not in (READY, ANSWER, FAILED) or length > CHUNK * 64:
            raise DelegateFailure("its process gave an answer that cannot be read")
        body = self._read(length, deadline)
        if kind == FAILED:
            raise DelegateFailure(" ".join(body.decode("utf-8", "replace").split())[:300])
        if kind != wanted:
            raise DelegateFailure("its process gave an answer out of turn")
        return body

    def _read(self, size: int, deadline: float) -> bytes:
        data = b""
        while len(data) < size:
            self._wait([self._replies], [], deadline)
            piece = os.read(self._replies, size - len(data))
            if not piece:
                raise DelegateFailure(self._death())
            data += piece
        return data

    def _wait(self, readable: list[int], writable: list[int], deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or select.select(readable, writable, [], left) == ([], [], []):
            raise DelegateFailure("it hung: no answer within its time limit")

    def _death(self) -> str:
        try:
            status = self._child.wait(KILL_WAIT_S)
        except subprocess.TimeoutExpired:
            return "it closed its streams and went on"
        if status < 0:
            names = {number.value: number.name for number in signal.Signals}
            return f"it crashed ({names.get(-status, f'signal {-status}')})"
        return f"its process ended without an answer (exit status {status})"
