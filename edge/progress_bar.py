"""The bar a command draws under long work: place, rate and time left, on stderr where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click


class ProgressBar:
    """One bar at a time. Where stderr is no terminal nothing is drawn."""

    def __init__(self) -> None:
        self._drawn: click._termui_impl.ProgressBar[str] | None = None
        self._label, self._total, self._start = "", 0, 0.0

    def show(self, label: str, done: int, total: int) -> None:
        """Draw `done` of `total`; another label or total begins a new bar."""
        if not sys.stderr.isatty():
            return
        if self._drawn is None or (label, total) != (self._label, self._total):
            self.close()
            self._label, self._total, self._start = label, total, time.monotonic()
            self._drawn = click.progressbar(
                length=total, label=label, show_pos=True, item_show_func=lambda rate: rate, file=sys.stderr
            )
        spent = time.monotonic() - self._start
        rate = f"{done / spent:.1f}/s" if spent > 1 else ""
        self._drawn.update(max(0, min(done, total) - self._drawn.pos), rate)

    def close(self) -> None:
        """End the bar's line."""
        if self._drawn is not None:
            self._drawn.render_finish()
            self._drawn = None


@contextmanager
def progress_bar() -> Iterator[ProgressBar]:
    """A bar that is closed at the end, whatever happens."""
    bar = ProgressBar()
    try:
        yield bar
    finally:
        bar.close()
