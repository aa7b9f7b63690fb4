"""What the cases are worth against what they cost: numbers in, `Figure` out."""

from __future__ import annotations

from matplotlib.figure import Figure

from edge_convert.report.inline import day
from edge_convert.report.tradeoff import Spot, plot_tradeoff
from edge_convert.sweep.compare import Comparison
from edge_convert.sweep.run import Row, Sweep


def plot_sweep(found: Sweep, comparison: Comparison) -> Figure:
    """AUC and specificity with their 95 % intervals over time and size; each case is its number in the table.

    The marker is the kind of pruning; cases that are not on the front, or missed a gate, are pale.
    """
    spots = [
        spot for number, row in enumerate(found.rows, start=1) if (spot := _spot(number, row, comparison)) is not None
    ]
    int8 = next(row.verification for row in found.rows if row.verification is not None).evaluations["val/int8"]
    words = (
        f"{len(spots)} cases, int8, n = {int8.n}, {int8.n_positive} with the finding; validation; "
        "bars: 95 % intervals; pale: not on the front"
    )
    figure = plot_tradeoff(spots, words)
    figure.set_facecolor(day("paper"))
    return figure


def _spot(number: int, row: Row, comparison: Comparison) -> Spot | None:
    if row.verification is None or row.point is None:
        return None
    int8 = row.verification.evaluations["val/int8"]
    taken = comparison.choice is not None and comparison.choice.case == row.case
    missed = ", gate missed" if row.state == "gate missed" else ""
    return Spot(
        label=f"{number}{' take' if taken else ''}{missed}",
        name=row.case,
        kind=row.kind,
        width=row.width,
        auc=int8.auc,
        specificity=int8.specificity_at_target,
        latency_ms=row.point.latency_ms,
        bytes=row.point.bytes,
        compressed_bytes=row.point.compressed_bytes,
        faint=not comparison.standings[row.case].on_front,
    )
