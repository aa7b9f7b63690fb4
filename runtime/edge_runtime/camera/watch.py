"""The loop: take the newest frame, screen it, give the verdict with the frame's age; and what is worth a line."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge.errors import PictureError
from edge_runtime.camera import Frame
from edge_runtime.camera.grabber import Back, Grabber, Lost
from edge_runtime.camera.newest import POLL_S
from edge_runtime.pipeline import Screener, Screening

REMEMBERED = 1000
"""Of so many last verdicts the summary gives the medians: a loop that runs for months must not grow."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One frame that was screened, or could not be.

    age_ms: from the frame's grabbing to its verdict. dropped: the frames between this one and the one before, which
    were never screened. at_s: of the verdict, on the monotonic clock.
    """

    frame: Frame
    result: Screening | PictureError
    age_ms: float
    dropped: int
    at_s: float

    @property
    def decision(self) -> str:
        """The verdict's, or `error`."""
        return "error" if isinstance(self.result, PictureError) else self.result.verdict.decision


def watch(
    screener: Screener, camera: Grabber, *, name: str, explain: bool = False, stop: Callable[[], bool]
) -> Iterator[Seen | Lost | Back]:
    """Screen the newest frame, again and again, until `stop` or the end of a file. name: the camera's, in the records.

    stop is asked after each verdict, and while nothing comes every 0.2 s; so often is a loss told while it lasts.
    explain: whether the map is read out.
    Raises CameraError, InterpreterError.
    """
    last = 0
    while not stop():
        found = camera.take(POLL_S)
        if isinstance(found, Frame):
            result: Screening | PictureError
            try:
                result = screener.screen_frame(found.pixels, name=f"{name}#{found.number}", explain=explain)
            except PictureError as error:
                result = error
            now = time.monotonic()
            dropped, last = found.number - last - 1, found.number
            yield Seen(frame=found, result=result, age_ms=1e3 * (now - found.grabbed_s), dropped=dropped, at_s=now)
        elif found is not None:
            yield found
        elif camera.lost is not None:
            yield camera.lost
        elif camera.ended:
            return


class Changes:
    """Which verdicts are worth a line: another decision than the last one's, and one now and then to show life."""

    def __init__(self, *, heartbeat_s: float) -> None:
        """heartbeat_s: the longest time without a line; 0 gives each verdict one."""
        self._heartbeat_s = heartbeat_s
        self._decision = ""
        self._at_s = 0.0

    def due(self, decision: str, at_s: float) -> bool:
        """Whether this decision, at this moment on the monotonic clock, has a line of its own."""
        if decision == self._decision and at_s - self._at_s < self._heartbeat_s:
            return False
        self._decision, self._at_s = decision, at_s
        return True


@dataclass(kw_only=True)
class Tally:
    """What a loop has done so far. pace_ms: from verdict to verdict; age_ms: from frame to verdict; the last ones."""

    screened: int = 0
    failed: int = 0
    dropped: int = 0
    reconnections: int = 0
    began_s: float = field(default_factory=time.monotonic)
    pace_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    age_ms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    _last_s: float | None = None

    def add(self, item: Seen | Lost | Back) -> None:
        """Count one thing that `watch` gave."""
        if isinstance(item, Seen):
            self.screened += isinstance(item.result, Screening)
            self.failed += isinstance(item.result, PictureError)
            self.dropped += item.dropped
            self.age_ms.append(item.age_ms)
            if self._last_s is not None:
                self.pace_ms.append(1e3 * (item.at_s - self._last_s))
            self._last_s = item.at_s
        else:
            # The gap in which there was no camera says nothing of the device's pace.
            self._last_s = None
            self.reconnections += isinstance(item, Back) and bool(self.age_ms)

    def sentence(self) -> str:
        """The summary, in one line."""
        parts = [
            f"{_count(self.screened, 'frame')} screened in {time.monotonic() - self.began_s:.1f} s",
            f"{self.dropped} dropped",
            f"{self.failed} not screened" if self.failed else "",
            f"median {statistics.median(self.pace_ms):.1f} ms from verdict to verdict" if self.pace_ms else "",
            f"{statistics.median(self.age_ms):.1f} ms from frame to verdict" if self.age_ms else "",
            _count(self.reconnections, "reconnection"),
        ]
        return ", ".join(filter(None, parts))


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
