"""How far a long step is: yielded by the library, drawn by the command."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Progress:
    """done of total units of a step. note: something worth a line of its own, such as an epoch's result."""

    done: int
    total: int
    note: str = ""


Steps = Generator[Progress, None, T]
"""A long step: yields how far it is and returns its result."""
