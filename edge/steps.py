"""Long work as generators: they yield how far they are and return their result."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

A = TypeVar("A")
T = TypeVar("T")


def finish(steps: Generator[A, None, T], on_step: Callable[[A], object] | None = None) -> T:
    """Run a long step to its end. on_step: is given each thing that it yields. Returns its result."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if on_step is not None:
            on_step(step)
