"""The camera's thread: it reads without pause and keeps the newest frame, and opens the camera again when that is lost.

A thread that hangs inside a library cannot be ended. It is left behind, and another takes its place.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge.errors import CameraError
from edge.frozen import dataclass
from edge_runtime.camera import OPEN_LIMIT_S, READ_LIMIT_S, Frame, Source, Wanted, open_source
from edge_runtime.camera.newest import POLL_S, Newest

BORNE_SHARE, BORNE_FRAMES = 0.01, 2
"""May be missing of the frames that a file's header tells of: some containers only know the length in seconds."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds that opening and reading may take before the thread counts as hung; pauses between attempts, doubled each
    time; seconds for all threads to end; how many hung threads are borne.
    """

    opening_s: float = OPEN_LIMIT_S + 7
    reading_s: float = READ_LIMIT_S + 2
    first_pause_s: float = 0.5
    longest_pause_s: float = 8.0
    ending_s: float = 2.0
    hung: int = 3


@dataclass(frozen=True, kw_only=True)
class Lost:
    """The camera gives no frames any more, or none yet, and is tried again and again."""

    error: CameraError


@dataclass(frozen=True, kw_only=True)
class Back:
    """The camera gives frames again. after_s: seconds since it was lost."""

    after_s: float


class _Reader:
    """One thread and what it waits for. left: it is to end, and what it still gives does not count.

    deadline: when the call that it is in counts as hung, on the monotonic clock; None where it is in none.
    """

    def __init__(self, run: Callable[[_Reader], None]) -> None:
        self.left = threading.Event()
        self.deadline: float | None = None
        self.thread = threading.Thread(target=run, args=(self,), name="camera", daemon=True)
        self.thread.start()

    def must_return_in(self, seconds: float | None) -> None:
        """A call into the library begins; None: it has returned."""
        self.deadline = None if seconds is None else time.monotonic() + seconds


class Grabber:
    """The newest frame of a camera that comes and goes. Made and used by one thread; close it."""

    def __init__(
        self,
        wanted: Wanted,
        *,
        wait: bool = False,
        every_frame: bool = False,
        limits: Limits | None = None,
        opener: Callable[[Wanted], Source] = open_source,
    ) -> None:
        """Start to read. wait: for a camera that is not there yet. every_frame: of a file, whatever its pace."""
        self._wanted, self._opener, self._limits = wanted, opener, limits or Limits()
        self._wait, self._every_frame = wait, every_frame
        self.note = ""
        """At a file's end: what is wrong where it held clearly fewer frames than it says."""
        self._box: Newest[Frame, Lost | Back] = Newest()
        self._lock = threading.Lock()
        self._given = 0
        self._lost: Lost | None = None
        self._lost_at = 0.0
        self._failure: BaseException | None = None
        self._hung: list[_Reader] = []
        self._reader = _Reader(self._run)

    def take(self, timeout_s: float) -> Frame | Lost | Back | None:
        """The newest frame that was not taken yet; or what happened before it. None where nothing came in time.

        Raises CameraError where there is no camera, a file cannot be read, or the library hangs again and again.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            self._replace_if_hung()
            left = deadline - time.monotonic()
            found = self._box.take(min(max(0.0, left), POLL_S))
            if found is not None:
                return found
            if self._failure is not None:
                raise self._failure
            if left <= 0 or self._box.done:
                return None

    @property
    def ended(self) -> bool:
        """Whether the file is at its end and its last frame taken."""
        return self._box.done

    @property
    def lost(self) -> Lost | None:
        """The loss that `take` has told, or is about to, while it lasts."""
        return self._lost

    @property
    def given(self) -> int:
        """The number of the newest frame, taken or not."""
        return self._given

    def close(self) -> bool:
        """End the threads and give the camera back; False where one hangs in its library."""
        readers = [*self._hung, self._reader]
        for reader in readers:
            reader.left.set()
        self._box.close()
        deadline = time.monotonic() + self._limits.ending_s
        for reader in readers:
            reader.thread.join(max(0.0, deadline - time.monotonic()))
        return not any(reader.thread.is_alive() for reader in readers)

    def _run(self, reader: _Reader) -> None:
        limits, pause_s = self._limits, self._limits.first_pause_s
        while not reader.left.is_set():
            began = time.monotonic()
            try:
                self._read(reader)
                return
            except CameraError as error:
                self._lose(reader, error)
            except BaseException as error:  # noqa: BLE001 - raised again where the frames are taken
                self._fail(reader, error)
            reader.must_return_in(None)
            if time.monotonic() - began > limits.longest_pause_s:
                pause_s = limits.first_pause_s
            reader.left.wait(pause_s)
            pause_s = min(2 * pause_s, limits.longest_pause_s)

    def _read(self, reader: _Reader) -> None:
        """Open the camera and give its frames on; returns at the end of a file. Raises CameraError where it is lost."""
        reader.must_return_in(self._limits.opening_s)
        source = self._opener(self._wanted)
        interval_s = None if self._every_frame else source.interval_s
        due = time.monotonic()
        try:
            while not reader.left.is_set():
                reader.must_return_in(self._limits.reading_s)
                pixels = source.read()
                reader.must_return_in(None)
                if pixels is None:
                    break
                if interval_s is not None:
                    # A file keeps its own pace, as a camera does; one that was late does not hurry after.
                    reader.left.wait(max(0.0, due - time.monotonic()))
                    due = max(due + interval_s, time.monotonic())
                self._give(reader, pixels)
        finally:
            reader.must_return_in(self._limits.reading_s)
            source.close()
            reader.must_return_in(None)
        if source.interval_s is None and not reader.left.is_set():
            raise CameraError(
                f"{self._wanted.shown} gives no {'more ' if self._given else ''}frames",
                remedy="check its cable and that it is on",
            )
        if not self._given:
            raise CameraError(f"{self._wanted.shown} holds no frame", remedy="name another video")
        if not reader.left.is_set():
            missing = source.says_it_holds - self._given
            if missing > max(BORNE_FRAMES, BORNE_SHARE * source.says_it_holds):
                self.note = f"it says that it holds {source.says_it_holds} frames; {self._given} could be read"
            self._box.close()

    def _give(self, reader: _Reader, pixels: NDArray[np.uint8]) -> None:
        with self._lock:
            if reader.left.is_set():
                return
            if self._lost is not None:
                self._box.tell(Back(after_s=time.monotonic() - self._lost_at))
                self._lost = None
            self._given += 1
            frame = Frame(pixels=pixels, number=self._given, grabbed_s=time.monotonic())
        if self._every_frame:
            self._box.put_after_taken(frame, reader.left)
        else:
            self._box.put(frame)

    def _lose(self, reader: _Reader, error: CameraError) -> None:
        """Say once that there are no frames; for good where nobody wants to wait, or waiting cannot help."""
        if self._wanted.kind == "file" or not (self._given or self._wait):
            self._fail(reader, error)
            return
        with self._lock:
            if reader.left.is_set() or self._lost is not None:
                return
            self._lost, self._lost_at = Lost(error=error), time.monotonic()
            self._box.tell(self._lost, clear=True)

    def _fail(self, reader: _Reader, error: BaseException) -> None:
        if not reader.left.is_set():
            self._failure = error
            reader.left.set()
            self._box.close()

    def _replace_if_hung(self) -> None:
        reader = self._reader
        deadline = reader.deadline
        if deadline is None or time.monotonic() < deadline:
            return
        error = CameraError(f"{self._wanted.shown} does not answer", remedy="unplug it and plug it in again")
        self._lose(reader, error)
        with self._lock:
            reader.left.set()
        self._hung = [hung for hung in self._hung if hung.thread.is_alive()] + [reader]
        if len(self._hung) > self._limits.hung:
            raise error
        if self._failure is None:
            self._reader = _Reader(self._run)
