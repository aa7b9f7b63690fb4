"""How far a long step is: yielded by the library, drawn by the command."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from edge.steps import finish

__all__ = ["Progress", "Steps", "finish", "translate"]

A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """done of total units of a step. note: something worth a line of its own, such as an epoch's result."""

    done: int
    total: int
    note: str = ""


Steps = Generator[Progress, None, T]
"""A long step: yields how far it is and returns its result."""


def translate(steps: Generator[A, None, T], change: Callable[[A], B]) -> Generator[B, None, T]:
    """A long step as part of another one: yields what `change` makes of each thing that it yields, same result."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        yield change(step)
