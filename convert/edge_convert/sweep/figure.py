"""What the cases are worth against what they cost: numbers in, `Figure` out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from edge_convert.report.inline import day
from edge_convert.sweep.compare import Comparison
from edge_convert.sweep.run import Row, Sweep
from edge_runtime.metrics import Interval


def plot_sweep(found: Sweep, comparison: Comparison) -> Figure:
    """Quality with its 95 % interval over time and over size; each case is its number in the table."""
    figure = Figure(figsize=(9, 4.4), layout="constrained", facecolor=day("paper"))
    left, right = figure.subplots(1, 2, sharey=True)
    measured = [(number, row) for number, row in enumerate(found.rows, start=1) if row.point is not None]
    for axes, key, label in (
        (left, "latency_ms", "inference on this machine, one thread (ms)"),
        (right, "bytes", "int8 file (MB)"),
    ):
        _panel(axes, measured, comparison, key)
        axes.set_xlabel(label, fontsize=9.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=day("line"), linewidth=0.6, which="both")
        axes.set_axisbelow(True)
    quality = "specificity at the target" if comparison.by == "specificity" else "AUC"
    left.set_ylabel(f"{quality}, int8 (share)", fontsize=9.5)
    int8 = measured[0][1].verification
    assert int8 is not None
    n = int8.evaluations["val/int8"]
    words = f"{len(measured)} cases, n = {n.n}, {n.n_positive} with the finding; validation; bars: 95 % intervals"
    figure.suptitle(words, fontsize=10, x=0.06, ha="left", color=day("ink"))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    return figure


def _panel(axes: Any, measured: Sequence[tuple[int, Row]], comparison: Comparison, key: str) -> None:
    """One panel. key: which of a point's costs lies along it."""
    styles = {
        "on the front": ("blue", "o"),
        "not on it": ("quiet", "o"),
        "a gate missed": ("vermillion", "x"),
    }
    for name, (colour, marker) in styles.items():
        for first, (number, row) in enumerate(item for item in measured if _kind(item[1], comparison) == name):
            x, value = _cost(row, key), _quality(row, comparison)
            axes.errorbar(
                [x],
                [value.value],
                yerr=[[value.value - value.low], [value.high - value.value]],
                color=day(colour),
                marker=marker,
                markersize=6,
                linewidth=0,
                elinewidth=0.9,
                label=name if first == 0 else None,
            )
            taken = comparison.choice is not None and comparison.choice.case == row.case
            axes.annotate(
                f"{number} take" if taken else f"{number}",
                (x, value.value),
                xytext=(5, 3),
                textcoords="offset points",
                fontsize=9,
                fontweight="bold" if taken else "normal",
                color=day("ink"),
            )
    axes.set_xlim(0, 1.15 * max(_cost(row, key) for _, row in measured))
    axes.tick_params(labelsize=8.5)


def _kind(row: Row, comparison: Comparison) -> str:
    if row.state == "gate missed":
        return "a gate missed"
    return "on the front" if comparison.standings[row.case].on_front else "not on it"


def _cost(row: Row, key: str) -> float:
    """Milliseconds, or 10^6 bytes."""
    return float(getattr(row.point, key)) / (1e6 if key == "bytes" else 1)


def _quality(row: Row, comparison: Comparison) -> Interval:
    assert row.verification is not None
    int8 = row.verification.evaluations["val/int8"]
    return int8.specificity_at_target if comparison.by == "specificity" else int8.auc
