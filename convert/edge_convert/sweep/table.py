"""A sweep for people and for machines: the table, the sentences below it, CSV and JSON."""

from __future__ import annotations

import csv
import io
from typing import Any

from edge.fields import plain
from edge_convert.sweep.choice import Choice, Rival
from edge_convert.sweep.compare import Comparison
from edge_convert.sweep.run import Row, Sweep
from edge_runtime.metrics import Interval

HEAD = ("", "case", "kind", "AUC", "specificity at target", "ms", "ratio", "MB", "gzip MB", "marks")


def render(found: Sweep, comparison: Comparison) -> str:
    """The table, then what it was measured on and what to take from it."""
    lines = [_cells(number, row, comparison) for number, row in enumerate(found.rows, start=1)]
    widths = [max(len(line[column]) for line in (HEAD, *lines)) for column in range(len(HEAD))]
    shown = [
        "  ".join(
            cell.ljust(width) if column in (1, 2, 3, 4, 9) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in (HEAD, *lines)
    ]
    return "\n".join([*shown, *_footing(found, comparison)])


def _cells(number: int, row: Row, comparison: Comparison) -> tuple[str, ...]:
    point, verification, timing = row.point, row.verification, row.timing
    if point is None or verification is None or timing is None:
        return (f"{number}", row.case, _kind(row), "-", "-", "-", "-", "-", "-", f"FAILED: {row.reason}")
    int8 = verification.evaluations["val/int8"]
    return (
        f"{number}",
        row.case,
        _kind(row),
        _interval(int8.auc),
        _interval(int8.specificity_at_target),
        f"{point.latency_ms:.2f}",
        f"{timing.ratio:.2f}",
        f"{point.bytes / 1e6:.2f}",
        f"{point.compressed_bytes / 1e6:.2f}",
        ", ".join(_marks(row, comparison)),
    )


def _kind(row: Row) -> str:
    return row.kind if row.width == 1 else f"{row.kind}, width {row.width:g}"


def _marks(row: Row, comparison: Comparison) -> list[str]:
    standing, choice = comparison.standings[row.case], comparison.choice
    marks = ["front"] if standing.on_front else []
    if row.state == "gate missed":
        marks.append(f"GATE MISSED: {row.reason}")
    if standing.misses:
        marks.append(f"over budget: {', '.join(standing.misses)}")
    elif standing.misses == () and row.state == "built":
        marks.append("fits")
    if choice is not None and choice.case == row.case:
        marks.append("TAKE")
    return marks + [row.note] * bool(row.note)


def _footing(found: Sweep, comparison: Comparison) -> list[str]:
    lines = [""]
    measured = [row for row in found.rows if row.verification is not None]
    pictures = sorted({_measured_on(row) for row in measured})
    lines += [f"int8, through the runtime, on the validation split: {words}" for words in pictures]
    if len(pictures) > 1:
        lines.append("the cases differ in what they were measured on, so their measures do not quite compare")
    if measured:
        lines.append(
            f"ms: of the processor, the network alone, one thread, {found.rounds} rounds in turns on this machine "
            f"({found.machine.cpu}, {found.machine.interpreter}); ratio: to the first case measured"
        )
        if any(row.timing and row.timing.busy for row in measured):
            lines.append("this machine did other work meanwhile: the ratios hold, the milliseconds may be too long")
        quality = "specificity at the target" if comparison.by == "specificity" else "AUC"
        lines.append(
            f"front: no other case that met its gates is at least as good in {quality}, ms, MB and gzip MB, and better "
            "in one (times within 2 % are equal)"
        )
    lines += [f"left out, cannot be built: {case.name}: {case.reason}" for case in found.impossible]
    return lines + (_budget_lines(found, comparison) if comparison.budget is not None else [])


def _measured_on(row: Row) -> str:
    assert row.verification is not None
    int8, profile = row.verification.evaluations["val/int8"], row.verification.decision.profile
    return (
        f"{int8.n} pictures, {int8.n_positive} positive, {int8.n_groups} groups; "
        f"target sensitivity {profile.sensitivity:g} by {int8.level}"
    )


def _budget_lines(found: Sweep, comparison: Comparison) -> list[str]:
    budget, choice, factor = comparison.budget, comparison.choice, comparison.latency_factor
    lines = ["", f"budget: {budget}"]
    if budget is not None and budget.latency_ms is not None:
        times = "" if factor == 1 else f", times {factor:g}"
        lines.append(f"  latency_ms is held against this machine's milliseconds{times}, not against the device's own")
    if choice is None:
        return [*lines, "no case that met its gates fits it"]
    folder = next(row.folder for row in found.rows if row.case == choice.case)
    lines += [f"take {choice.case} ({folder}): the best of {choice.fitting} that fit", *_doubts(choice)]
    return lines


def _doubts(choice: Choice) -> list[str]:
    """What a choice by validation pictures is worth."""
    lines = []
    if choice.trained > 1:
        lines.append(
            f"  chosen among {choice.fitting} of {choice.trained} cases by the very pictures that its measures are of, "
            "which flatters them"
        )
    if choice.not_resampled and choice.rivals:
        lines.append(f"  the cases' own intervals are held against one another: {choice.not_resampled}")
    elif choice.drawn is not None and choice.rivals:
        lines.append(f"  drawn again from the same groups, it would be taken in {choice.drawn:.0%} of the draws")
    near = [rival for rival in choice.rivals if not rival.apart]
    if near:
        lines.append(f"  these pictures do not tell it from {len(near)} of the other {len(choice.rivals)} that fit:")
        lines += [f"    {rival.case}{_difference(rival)}" for rival in near]
    elif choice.rivals:
        lines.append("  its interval lies clear of every other one that fits")
    if choice.test_auc is not None and choice.test_specificity is not None:
        lines.append(
            f"  on the test split, which had no say: AUC {_interval(choice.test_auc)}, "
            f"specificity at the target {_interval(choice.test_specificity)}"
        )
    else:
        lines.append("  there is no test split: measure it on pictures of its own with `edge evaluate`")
    return lines


def _difference(rival: Rival) -> str:
    if rival.difference is None:
        return ": the intervals overlap"
    d = rival.difference
    taken = "" if rival.drawn is None else f", taken in {rival.drawn:.0%} of the draws"
    return f": {d.value:+.4f} [{d.low:+.4f}, {d.high:+.4f}]{taken}"


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def records(found: Sweep, comparison: Comparison) -> list[dict[str, Any]]:
    """A flat record a case: its settings, state, measures and marks; None where it has none."""
    keys = list(dict.fromkeys(key for row in found.rows for key in row.settings))
    return [
        {
            "case": row.case,
            **{key: row.settings.get(key) for key in keys},
            "kind": row.kind,
            "width": row.width,
            "state": row.state,
            "reason": row.reason,
            "note": row.note,
            **_measures(row),
            "front": comparison.standings[row.case].on_front,
            "budget_missed": _missed(row, comparison),
            "take": comparison.choice is not None and comparison.choice.case == row.case,
            "folder": str(row.folder),
        }
        for row in found.rows
    ]


def _missed(row: Row, comparison: Comparison) -> list[str] | None:
    misses = comparison.standings[row.case].misses
    return None if misses is None else list(misses)


def _measures(row: Row) -> dict[str, Any]:
    point, verification, timing = row.point, row.verification, row.timing
    if point is None or verification is None or timing is None:
        names = ("n", "n_positive", "auc", "auc_low", "auc_high", "target_sensitivity", "specificity")
        rest = ("specificity_low", "specificity_high", "latency_ms", "wall_p5_ms", "wall_p95_ms")
        return dict.fromkeys((*names, *rest, "latency_ratio", "busy", "bytes", "compressed_bytes"))
    int8 = verification.evaluations["val/int8"]
    return {
        "n": int8.n,
        "n_positive": int8.n_positive,
        "auc": point.auc,
        "auc_low": int8.auc.low,
        "auc_high": int8.auc.high,
        "target_sensitivity": verification.decision.profile.sensitivity,
        "specificity": point.specificity,
        "specificity_low": int8.specificity_at_target.low,
        "specificity_high": int8.specificity_at_target.high,
        "latency_ms": point.latency_ms,
        "wall_p5_ms": timing.wall_ms.p5,
        "wall_p95_ms": timing.wall_ms.p95,
        "latency_ratio": timing.ratio,
        "busy": timing.busy,
        "bytes": point.bytes,
        "compressed_bytes": point.compressed_bytes,
    }


def as_json(found: Sweep, comparison: Comparison) -> dict[str, Any]:
    """All of it: records, what was left out, the machine, the budget and the choice."""
    return {
        "split": "val",
        "by": comparison.by,
        "machine": plain(found.machine),
        "rounds": found.rounds,
        "latency_factor": comparison.latency_factor,
        "budget": plain(comparison.budget),
        "cases": records(found, comparison),
        "impossible": plain(found.impossible),
        "choice": plain(comparison.choice),
    }


def as_csv(found: Sweep, comparison: Comparison) -> str:
    """The records as CSV, lists joined by `;`."""
    rows = records(found, comparison)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {
                key: ";".join(map(str, value)) if isinstance(value, (list, tuple)) else value
                for key, value in row.items()
            }
        )
    return stream.getvalue()
