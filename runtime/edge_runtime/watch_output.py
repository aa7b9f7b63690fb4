"""What `edge watch` shows: lines on standard output, pictures in folders, a window."""

from __future__ import annotations

import json
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import cv2
import numpy as np

from edge.errors import EdgeError
from edge.names import printable
from edge.record import Failure
from edge_runtime.camera.grabber import Back, Lost
from edge_runtime.camera.keep import NOT_KEPT, Keeper
from edge_runtime.camera.watch import Changes, Seen
from edge_runtime.saliency import shown_zoom, with_caption
from edge_runtime.talk import print_line, tell, tell_delegate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edge_runtime.camera.window import Window
    from edge_runtime.pipeline import Screener, Screening

HEARTBEAT_S = 10.0
"""There is a line at least so often, so that silence means that the loop is dead."""


class Output:
    """Where verdicts go: standard output, the folders, the window."""

    def __init__(
        self,
        screener: Screener,
        name: str,
        *,
        each: bool,
        as_json: bool,
        keeper: Keeper | None,
        window: Window | None,
    ) -> None:
        """name: the camera's. each: a line for each verdict, not only for changes."""
        self._screener, self._name = screener, name
        self._changes = Changes(heartbeat_s=0 if each else HEARTBEAT_S)
        self._as_json, self._keeper, self._window = as_json, keeper, window
        self._delegate = screener.delegate
        self._disk_told = False
        self._lost: Lost | None = None
        self._lost_line_s = 0.0
        self.explains = window is not None or (keeper is not None and keeper.has("overlay"))

    def show(self, item: Seen | Lost | Back) -> None:
        """Print, keep and draw one thing that the loop gave, as far as it says something new."""
        if isinstance(item, Seen):
            self._show_seen(item)
        elif isinstance(item, Lost):
            self._show_lost(item)
        else:
            tell(f"{self._name} is back after {item.after_s:.1f} s")

    def _show_lost(self, lost: Lost) -> None:
        now, new = time.monotonic(), lost is not self._lost
        if new or now - self._lost_line_s >= HEARTBEAT_S:
            self._print_error(self._name, lost.error)
            self._lost_line_s = now
        if new:
            # The next verdict is news, even where it is the one from before.
            self._changes.due("error", now)
            tell(f"{self._name} is tried again until it is back")
            if self._window is not None:
                self._window.darken()
        self._lost = lost

    def _show_seen(self, seen: Seen) -> None:
        result = seen.result
        due = self._changes.due(seen.decision, seen.at_s)
        if isinstance(result, EdgeError):
            if due:
                self._print_error(f"{self._name}#{seen.frame.number}", result)
            if self._window is not None:
                self._window.show(_not_screened(seen.frame.pixels))
            return
        keeps_maps = due and self._keeper is not None and self._keeper.has("overlay")
        overlay = self._screener.overlay(result) if keeps_maps or self._window is not None else None
        if due:
            self._print_verdict(seen, result, self._keep(result, overlay, seen.decision))
        if self._window is not None:
            below = self._screener.caption(result.verdict)
            self._window.show(with_caption(result.whole(), below) if overlay is None else overlay)
        tell_delegate(self._screener, self._delegate)
        self._delegate = self._screener.delegate

    def _keep(self, screening: Screening, overlay: NDArray[np.uint8] | None, decision: str) -> dict[str, str]:
        """Write what is worth it; returns what was written where. A full disk is told once: the verdict stands."""
        if self._keeper is None or decision in NOT_KEPT:
            return {}
        pictures = {"kept": screening.whole()}
        if self._keeper.has("overlay") and overlay is not None:
            pictures["overlay"] = overlay
        try:
            written = self._keeper.keep(pictures, decision)
        except OSError as error:
            if not self._disk_told:
                tell(f"frames are not kept: {error.strerror}; make room on the disk, and check the folder")
            self._disk_told = True
            return {}
        self._disk_told = False
        return {what: str(path) for what, path in written.items()}

    def _print_verdict(self, seen: Seen, screening: Screening, kept: dict[str, str]) -> None:
        verdict = screening.verdict
        if self._as_json:
            taken = datetime.now(timezone.utc) - timedelta(seconds=time.monotonic() - seen.frame.grabbed_s)
            camera = {
                "frame": seen.frame.number,
                "taken": taken.isoformat(timespec="milliseconds"),
                "age_ms": seen.age_ms,
                "dropped": seen.dropped,
            }
            print_line(json.dumps({**verdict.to_json(), "camera": camera, **kept}))
            return
        notes = (printable(verdict.picture), "SYNTHETIC" if verdict.synthetic else "", verdict.remark, *kept.values())
        words = "  ".join(filter(None, notes))
        print_line(f"{seen.decision:<9} {verdict.stated}  {seen.age_ms:7.1f} ms  {_clock()}  {words}")

    def _print_error(self, name: str, error: EdgeError) -> None:
        if self._as_json:
            print_line(json.dumps(Failure(picture=name, error=error.message, remedy=error.remedy).to_json()))
        else:
            # What is said of the camera itself names it already.
            prefix = "" if name == self._name else f"{printable(name)}: "
            print_line(f"{'error':<9} -----  {'':>10}  {_clock()}  {prefix}{printable(error.message)}; {error.remedy}")


def _not_screened(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A frame that has no verdict, for the window: dark, as where there is no camera. frame: (rows, columns, 3) RGB."""
    zoom = shown_zoom(*frame.shape[:2])
    dark = cv2.resize(frame // 6, (frame.shape[1] * zoom, frame.shape[0] * zoom))
    return with_caption(np.asarray(dark, np.uint8), "error  this frame could not be screened")


def _clock() -> str:
    return time.strftime("%H:%M:%S")
