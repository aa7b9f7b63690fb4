"""A box between two threads that holds one thing, the newest: a queue would grow, and its head would be old."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")
N = TypeVar("N")

POLL_S = 0.2


class Newest(Generic[T, N]):
    """One newest thing, and news, which go before it and are never replaced."""

    def __init__(self) -> None:
        self._thing: T | None = None
        self._news: deque[N] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def put(self, thing: T) -> None:
        """Put the newest thing in; one that nobody took is gone."""
        with self._changed:
            self._thing = thing
            self._changed.notify_all()

    def put_after_taken(self, thing: T, give_up: threading.Event) -> None:
        """Wait until the thing before was taken, then put this one in; or until `give_up`."""
        with self._changed:
            while self._thing is not None and not give_up.is_set():
                self._changed.wait(POLL_S)
            self._thing = thing
            self._changed.notify_all()

    def tell(self, news: N, *, clear: bool = False) -> None:
        """Add news. clear: throw away the thing that nobody took, for it is older than the news."""
        with self._changed:
            self._thing = None if clear else self._thing
            self._news.append(news)
            self._changed.notify_all()

    def take(self, timeout_s: float) -> T | N | None:
        """News, oldest first, else the newest thing; waits for one. None after `timeout_s`, or once it is closed."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while not self._news and self._thing is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    return None
                self._changed.wait(left)
            if self._news:
                return self._news.popleft()
            thing, self._thing = self._thing, None
            self._changed.notify_all()
            return thing

    def close(self) -> None:
        """Nothing more will come; what is in the box can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """Whether it is closed and empty."""
        with self._changed:
            return self._closed and not self._news and self._thing is None
