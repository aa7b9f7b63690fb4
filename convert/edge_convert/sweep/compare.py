"""The rows of a sweep held against one another and against a device's budget."""

from __future__ import annotations

from dataclasses import dataclass

from edge_convert.sweep.choice import Choice, choose
from edge_convert.sweep.pareto import Budget, By, best, front
from edge_convert.sweep.run import Row, Sweep


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One row's place. on_front: nothing else that passed its gates is at least as good in everything and better in
    something; False where the row has no bundle to take. misses: of the budget; None where there is none, or no row.
    """

    on_front: bool
    misses: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What a sweep shows. by: the measure of quality. standings: by case. choice: None without a budget or a fit."""

    by: By
    budget: Budget | None
    latency_factor: float
    standings: dict[str, Standing]
    choice: Choice | None


def compare(found: Sweep, budget: Budget | None, *, by: By = "specificity", latency_factor: float = 1.0) -> Comparison:
    """Mark the front among the cases that met their gates and, of those that fit the budget, choose.

    latency_factor: the device's time over this machine's.
    """
    built = [row for row in found.rows if row.state == "built"]
    points = {row.case: row.point for row in found.rows}
    marked = front([point for row in built if (point := points[row.case])], by)
    on_front = {row.case for row, mark in zip(built, marked, strict=True) if mark}
    standings = {
        name: Standing(
            on_front=name in on_front,
            misses=budget.misses(point, latency_factor=latency_factor) if budget and point else None,
        )
        for name, point in points.items()
    }
    fitting = [row for row in built if standings[row.case].misses == ()]
    return Comparison(
        by=by,
        budget=budget,
        latency_factor=latency_factor,
        standings=standings,
        choice=_choose(fitting, by, trained=sum(point is not None for point in points.values())),
    )


def _choose(fitting: list[Row], by: By, *, trained: int) -> Choice | None:
    # The faster first: a resample in which several are best is then the fastest one's, as the choice itself is.
    ranked = sorted(
        ((row.case, row.verification, point) for row in fitting if row.verification and (point := row.point)),
        key=lambda found: found[2].latency_ms,
    )
    place = best([point for _, _, point in ranked], by)
    if place is None:
        return None
    return choose(place, [(name, verification) for name, verification, _ in ranked], by, trained=trained)
