"""Which cases are worth a look, and which one a device's budget takes: pure functions of numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edge.errors import EdgeError

By = Literal["specificity", "auc"]

SAME_TIME = 0.02
"""Medians that differ by this share or less are not told apart: files of one architecture differ by as much."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """What a case is worth and what it costs. auc, specificity: of int8, the latter at the target sensitivity."""

    auc: float
    specificity: float
    latency_ms: float
    bytes: int
    compressed_bytes: int

    def quality(self, by: By) -> float:
        """The measure that cases are compared by."""
        return self.specificity if by == "specificity" else self.auc


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a device allows, and what the model must reach; None where nothing is asked.

    latency_ms: of the network alone, one thread. model_mb, compressed_mb: 10^6 bytes of the int8 file, as it is and
    after gzip.
    """

    latency_ms: float | None = None
    model_mb: float | None = None
    compressed_mb: float | None = None
    auc: float | None = None
    specificity: float | None = None

    def __str__(self) -> str:
        asked = dataclasses.asdict(self).items()
        return ", ".join(f"{key} {'>=' if key in _FLOORS else '<='} {value:g}" for key, value in asked if value)

    def misses(self, point: Point, *, latency_factor: float = 1.0) -> tuple[str, ...]:
        """The demands that the case does not meet, by their names. latency_factor: the device's time over ours."""
        reached = {
            "latency_ms": point.latency_ms * latency_factor,
            "model_mb": point.bytes / 1e6,
            "compressed_mb": point.compressed_bytes / 1e6,
            "auc": point.auc,
            "specificity": point.specificity,
        }
        missed = []
        for key, value in reached.items():
            limit = getattr(self, key)
            if limit is not None and (value < limit if key in _FLOORS else value > limit):
                missed.append(key)
        return tuple(missed)


_FLOORS = ("auc", "specificity")


def parse_budget(text: str) -> Budget:
    """`latency_ms=30,model_mb=4,auc=0.95`. Raises EdgeError naming the part that is not so."""
    known = [entry.name for entry in dataclasses.fields(Budget)]
    found: dict[str, float] = {}
    for part in text.split(","):
        key, _, number = (word.strip() for word in part.partition("="))
        if key not in known or key in found:
            raise EdgeError(f"{part!r} in the budget names nothing new", remedy=f"use {', '.join(known)}, each once")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf"):
            raise EdgeError(f"{part!r} in the budget is no number above 0", remedy=f"write for example {key}=3.5")
        found[key] = value
    return Budget(**found)


def dominates(one: Point, other: Point, by: By) -> bool:
    """Whether `one` is at least as good in all of quality, latency and size, and better in one of them.

    Sizes are compared as they are shown, to 0.01 MB, and latencies to SAME_TIME. As only the latter is a tolerance, no
    ring of cases can each dominate the next, so a front is never empty.
    """
    quality = one.quality(by), other.quality(by)
    sizes = [(round(a / 1e4), round(b / 1e4)) for a, b in _sizes(one, other)]
    slower = one.latency_ms > other.latency_ms * (1 + SAME_TIME)
    if quality[0] < quality[1] or slower or any(a > b for a, b in sizes):
        return False
    faster = other.latency_ms > one.latency_ms * (1 + SAME_TIME)
    return quality[0] > quality[1] or faster or any(a < b for a, b in sizes)


def _sizes(one: Point, other: Point) -> list[tuple[int, int]]:
    return [(one.bytes, other.bytes), (one.compressed_bytes, other.compressed_bytes)]


def front(points: Sequence[Point], by: By = "specificity") -> list[bool]:
    """For each point whether no other one dominates it."""
    return [not any(dominates(other, point, by) for other in points) for point in points]


def best(points: Sequence[Point], by: By = "specificity") -> int | None:
    """The place of the best one: by quality, then latency, then size; None of none."""
    if not points:
        return None
    return min(range(len(points)), key=lambda i: (-points[i].quality(by), points[i].latency_ms, points[i].bytes))
