"""The report's plots: numbers in, `Figure` out. No name or label from a data set is drawn: it could be anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from edge_convert.prune.magnitude import LayerSparsity
from edge_convert.report.coverage import Risk
from edge_convert.report.inline import day
from edge_convert.report.numbers import Band, Bin, Curve, Histogram, OperatingPoint, Scored
from edge_convert.report.tables import threshold_words
from edge_convert.train.epoch import Epoch
from edge_runtime.metrics import Interval

WIDTH_IN = 4.7
ZOOM_FROM = 0.95
ZOOM = 0.2
MODEL_STYLES: dict[str, dict[str, Any]] = {
    "int8": {"color": day("blue"), "linewidth": 1.8, "zorder": 4},
    "float32": {"color": day("vermillion"), "linewidth": 1.4, "linestyle": (0, (4, 2)), "zorder": 5},
}

CALIBRATION_WORDS = {"network": "before calibration", "calibrated": "as decided on"}
CALIBRATION_STYLES: dict[str, dict[str, Any]] = {
    "network": {"color": day("vermillion"), "marker": "s", "markersize": 4, "linestyle": (0, (4, 2)), "zorder": 3},
    "calibrated": {"color": day("blue"), "marker": "o", "markersize": 5, "zorder": 4},
}

RISK_WORDS = {"nearest": "nearest to the threshold declined first", "unlike": "least like what is known declined first"}
RISK_STYLES: dict[str, dict[str, Any]] = {
    "nearest": {"color": day("blue"), "linewidth": 1.8, "zorder": 4},
    "unlike": {"color": day("vermillion"), "linewidth": 1.4, "linestyle": (0, (4, 2)), "zorder": 5},
}


def plot_roc(
    curves: dict[str, tuple[Curve, Interval]], band: Band, point: OperatingPoint, *, data: Scored, split: str
) -> Figure:
    """Receiver operating characteristic. curves: by model, with the area and its interval. band: of int8."""
    figure, axes = _figure(4.6)
    _title(axes, _counted(f"ROC, {split}", data))
    panels = [axes]
    if curves["int8"][1].value > ZOOM_FROM:
        panels.append(_zoom(axes, (0.36, 0.14, 0.6, 0.56), x=(0, ZOOM), y=(1 - ZOOM, 1)))
    alarms = complement(point.specificity)
    for panel in panels:
        panel.plot([0, 1], [0, 1], color=day("quiet"), linewidth=0.8, linestyle=":")
        panel.fill_between(band.x, band.low, band.high, color=day("band"), linewidth=0, zorder=1)
        for model, (curve, area) in curves.items():
            panel.plot(curve.x, curve.y, label=f"{model}, AUC {_interval(area)}", **MODEL_STYLES[model])
        _operating_point(panel, alarms, point.sensitivity, point.threshold)
    _unit_square(axes, "1 - specificity (share of the others referred)", "sensitivity (share of findings referred)")
    _legend_below(axes, columns=1)
    return figure


def plot_precision_recall(
    curves: dict[str, tuple[Curve, Interval]], band: Band, point: OperatingPoint, *, data: Scored, split: str
) -> Figure:
    """Precision over recall. curves: by model, with average precision and its interval. band: of int8."""
    figure, axes = _figure(4.6)
    _title(axes, _counted(f"Precision and recall, {split}", data))
    panels = [axes]
    if curves["int8"][1].value > ZOOM_FROM:
        panels.append(_zoom(axes, (0.14, 0.2, 0.6, 0.56), x=(1 - ZOOM, 1), y=(1 - ZOOM, 1)))
    for panel in panels:
        panel.axhline(data.n_positive / data.n, color=day("quiet"), linewidth=0.8, linestyle=":")
        panel.fill_between(band.x, band.low, band.high, color=day("band"), linewidth=0, zorder=1)
        for model, (curve, area) in curves.items():
            recall, precision = np.append(0, curve.x), np.append(curve.y[0], curve.y)
            label = f"{model}, average precision {_interval(area)}"
            panel.step(recall, precision, where="pre", label=label, **MODEL_STYLES[model])
        _operating_point(panel, point.sensitivity, point.precision, point.threshold)
    _unit_square(axes, "recall (share of findings referred)", "precision (share of referrals with the finding)")
    _legend_below(axes, columns=1)
    return figure


def plot_calibration(series: Mapping[str, Sequence[Bin]], *, data: Scored, split: str) -> Figure:
    """Reliability diagram: observed share over mean probability, bins of about equal count.

    series: `calibrated`, and `network` for the outputs before it where they differ.
    """
    figure, axes = _figure(4.4)
    _title(axes, _counted(f"Calibration, {split}", data))
    axes.plot([0, 1], [0, 1], color=day("quiet"), linewidth=0.8, linestyle=":", label="perfectly calibrated")
    for name, bins in series.items():
        shares = [bin_.observed for bin_ in bins]
        axes.errorbar(
            [bin_.mean_score for bin_ in bins],
            [share.value for share in shares],
            yerr=_arms(shares),
            linewidth=0.8,
            elinewidth=1.2,
            capsize=3,
            clip_on=False,
            label=f"{CALIBRATION_WORDS[name]}, {_bins_in_words(bins)}",
            **CALIBRATION_STYLES[name],
        )
    _unit_square(axes, "mean probability in the bin", "share with the finding in the bin")
    _legend_below(axes, columns=1)
    return figure


def _bins_in_words(bins: Sequence[Bin]) -> str:
    counts = sorted({bin_.n for bin_ in bins})
    size = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"{len(bins)} {'bins' if len(bins) > 1 else 'bin'} of {size} pictures"


def plot_histogram(bins: Histogram, threshold: float, *, data: Scored, split: str) -> Figure:
    """Scores by truth, one panel each, because the classes are seldom of like size."""
    figure, (upper, lower) = _figure(4.0, rows=2)
    _title(upper, _counted(f"Scores, {split}", data))
    for axes, counts, colour, words in (
        (upper, bins.positive, "vermillion", "with the finding"),
        (lower, bins.negative, "blue", "without"),
    ):
        axes.bar(bins.edges[:-1], counts, np.diff(bins.edges), align="edge", color=day(colour), edgecolor="none")
        axes.axvline(threshold, color=day("ink"), linewidth=1.2, linestyle=(0, (4, 2)))
        axes.set_ylabel("pictures")
        # Room above the bars for the words.
        axes.set_ylim(0, max(1, int(counts.max())) * 1.45)
        axes.yaxis.get_major_locator().set_params(integer=True, nbins=4)
        side, place = ("left", 0.02) if threshold > 0.5 else ("right", 0.98)
        axes.text(
            place,
            0.95,
            f"{words}: {counts.sum()}",
            transform=axes.transAxes,
            ha=side,
            va="top",
            fontsize=9.5,
            color=day("ink"),
        )
        axes.set_xlim(0, 1)
    _threshold_words(upper, threshold, height=0.86)
    lower.set_xlabel("probability of the finding, int8 (share)")
    return figure


def plot_training(history: Sequence[Epoch], *, n_validation: int) -> Figure:
    """Loss and validation measures, epoch after epoch through the phases."""
    figure, (upper, lower) = _figure(4.0, rows=2)
    _title(upper, f"Training: {len(history)} epochs, validated on n = {n_validation}", pad=28)
    x = np.arange(1, len(history) + 1)
    losses = [(place, epoch.loss) for place, epoch in zip(x, history, strict=True) if epoch.loss is not None]
    upper.set_ylabel("training loss (nats)")
    if losses:
        upper.plot(*zip(*losses, strict=True), color=day("ink"), marker="o", markersize=4, linewidth=1.4)
        upper.set_ylim(0, 1.1 * max(loss for _, loss in losses))
    for values, colour, marker, label in (
        ([epoch.validation_auc for epoch in history], "blue", "o", "AUC"),
        ([epoch.validation_average_precision for epoch in history], "green", "s", "average precision"),
    ):
        lower.plot(x, values, color=day(colour), marker=marker, markersize=4, linewidth=1.4, label=label)
    lower.set_ylabel("validation (share)")
    lower.set_ylim(top=1.005)
    lower.set_xlabel("epoch, counted within its phase")
    lower.set_xticks(x, [str(epoch.epoch) for epoch in history])
    _thin_ticks(lower, x)
    lower.set_xlim(0.5, len(history) + 0.5)
    _mark_phases(upper, lower, history)
    _legend_below(lower, columns=2)
    return figure


def plot_sparsity(layers: Sequence[LayerSparsity]) -> Figure:
    """Zeros by kernel: a bar's width is the kernel's weights, so that its filled area is its zeros."""
    figure, axes = _figure(2.5)
    weights = np.array([layer.weights for layer in layers], np.float64) / 1e6
    shares = np.array([layer.sparsity for layer in layers])
    left = np.cumsum(weights) - weights
    _title(axes, f"Zeros by kernel: {len(layers)} kernels, n = {weights.sum():.2f} million weights")
    axes.bar(left, shares, weights, align="edge", color=day("blue"), edgecolor=day("line"), linewidth=0.4)
    axes.set_xlim(0, weights.sum())
    axes.set_ylim(0, 1)
    axes.set_xlabel("weights, first layer to last (millions)")
    axes.set_ylabel("zeros (share)")
    return figure


def plot_agreement(int8: Scored, float32: Scored, threshold: float) -> Figure:
    """Probabilities of the same pictures by both models; those whose decision differs are marked."""
    figure, axes = _figure(4.0)
    _title(axes, _counted("int8 against float32, validation", int8))
    flipped = (int8.scores >= threshold) != (float32.scores >= threshold)
    axes.plot([0, 1], [0, 1], color=day("quiet"), linewidth=0.8, linestyle=":")
    for at in (axes.axhline, axes.axvline):
        at(threshold, color=day("ink"), linewidth=0.9, linestyle=(0, (4, 2)))
    for chosen, colour, marker, size, label in (
        (~flipped, "blue", "o", 12, "same decision"),
        (flipped, "vermillion", "D", 30, "decision flipped"),
    ):
        axes.scatter(
            float32.scores[chosen],
            int8.scores[chosen],
            s=size,
            color=day(colour),
            marker=marker,
            linewidths=0,
            alpha=0.6 if marker == "o" else 1,
            zorder=4,
            clip_on=False,
            label=f"{label}: {int(chosen.sum())}",
        )
    _unit_square(axes, "probability of the finding, float32", "probability of the finding, int8")
    _threshold_words(axes, threshold, height=0.04)
    _legend_below(axes, columns=2)
    return figure


def plot_risk(curves: Mapping[str, Risk], used: tuple[float, float, float], *, data: Scored, split: str) -> Figure:
    """Errors left over the share that is answered. used: coverage, errors, missed findings of the bundle's limits."""
    figure, panels = _figure(4.9, rows=2)
    _title(panels[0], _counted(f"Declining, {split}", data))
    coverage, *points = used
    for axes, measure, point, words in zip(
        panels,
        ("errors", "missed"),
        points,
        ("errors (share)", "cleared (share)"),
        strict=True,
    ):
        highest = point
        for name, risk in curves.items():
            values = getattr(risk, measure)
            axes.plot(risk.coverage, values, drawstyle="steps-post", label=RISK_WORDS[name], **RISK_STYLES[name])
            highest = max(highest, float(values.max()))
        axes.plot(
            [coverage], [point], color=day("ink"), marker="o", linewidth=0, zorder=6, label="this bundle's limits"
        )
        axes.set(xlim=(1, 0), ylim=(0, max(1.35 * highest, 0.01)))
        axes.set_ylabel(words)
    panels[0].text(0.98, 0.95, "wrong decisions, of the answered", **_corner(panels[0]))
    panels[1].text(0.98, 0.95, "findings cleared, of all findings", **_corner(panels[1]))
    panels[1].set_xlabel("answered (share of the pictures)")
    _legend_below(panels[1], columns=1)
    return figure


def _corner(axes: Any) -> dict[str, Any]:
    """Where and how a panel's own words stand: above right."""
    return {"transform": axes.transAxes, "ha": "right", "va": "top", "fontsize": 9.5, "color": day("ink")}


def _figure(height_in: float, *, rows: int = 1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout="constrained", facecolor="none")
    axes = figure.subplots(rows, 1, sharex=True, subplot_kw={"facecolor": "none"})
    for each in np.atleast_1d(axes):
        dress(each)
    return figure, axes


def dress(axes: Any) -> None:
    """What all plots look alike in: two spines, quiet ticks, a thin grid behind."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(day("quiet"))
    axes.tick_params(colors=day("quiet"), labelcolor=day("ink"), labelsize=9)
    axes.grid(color=day("line"), linewidth=0.6)
    axes.set_axisbelow(True)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=day("ink"), size=9.5)


def _title(axes: Any, words: str, *, pad: float = 6) -> None:
    axes.set_title(words, fontsize=10, loc="left", color=day("ink"), pad=pad)


def _counted(words: str, data: Scored) -> str:
    return f"{words}: n = {data.n}, {data.n_positive} with the finding"


def _unit_square(axes: Any, x: str, y: str) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=x, ylabel=y)


def _zoom(
    axes: Any, place: tuple[float, float, float, float], *, x: tuple[float, float], y: tuple[float, float]
) -> Any:
    """An enlarged corner: curves of a good model all lie there."""
    inset = axes.inset_axes(place, xlim=x, ylim=y, facecolor=day("paper"))
    dress(inset)
    inset.spines[:].set_visible(True)
    inset.spines[:].set_color(day("quiet"))
    inset.set_xticks(np.linspace(*x, 5))
    inset.set_yticks(np.linspace(*y, 5))
    inset.tick_params(labelsize=8)
    inset.set_title("the corner, enlarged", fontsize=8.5, color=day("quiet"), pad=3)
    axes.indicate_inset_zoom(inset, edgecolor=day("quiet"), linewidth=0.8)
    return inset


def _operating_point(axes: Any, x: Interval, y: Interval, threshold: float) -> None:
    axes.errorbar(
        [x.value],
        [y.value],
        xerr=_arms([x]),
        yerr=_arms([y]),
        color=day("ink"),
        marker="o",
        markersize=6,
        linewidth=0,
        elinewidth=1.2,
        capsize=3,
        zorder=6,
        label=f"int8 at the threshold {threshold_words(threshold)}, 95 % intervals",
    )


def _arms(intervals: Sequence[Interval]) -> NDArray[np.float64]:
    """Lengths of error bars, (2, points)."""
    return np.array(
        [[i.value - i.low for i in intervals], [i.high - i.value for i in intervals]],
        np.float64,
    ).clip(0)


def complement(interval: Interval) -> Interval:
    """Of a share's interval, that of the rest."""
    return Interval(value=1 - interval.value, low=1 - interval.high, high=1 - interval.low)


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _legend_below(axes: Any, *, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=day("ink"),
        handlelength=2.4,
    )


def _threshold_words(axes: Any, threshold: float, *, height: float) -> None:
    """The threshold's value beside its line, on the side with more room."""
    left = threshold > 0.5
    axes.annotate(
        f"threshold {threshold_words(threshold)}",
        (threshold, height),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        fontsize=9,
        color=day("ink"),
    )


def _mark_phases(upper: Any, lower: Any, history: Sequence[Epoch]) -> None:
    start = 0.5
    for index, (phase, epochs) in enumerate(groupby(history, key=lambda epoch: epoch.phase)):
        count = len(list(epochs))
        if start > 0.5:
            for axes in (upper, lower):
                axes.axvline(start, color=day("quiet"), linewidth=0.8, linestyle=":")
        # Two rows in turn: a phase of one epoch is narrower than its name.
        upper.annotate(
            phase,
            (start, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 3 + 11 * (index % 2)),
            textcoords="offset points",
            fontsize=8.5,
            color=day("quiet"),
            annotation_clip=False,
        )
        start += count


def _thin_ticks(axes: Any, x: NDArray[np.int64]) -> None:
    """At most about 15 labels, so that they do not run together."""
    step = -(-len(x) // 15)
    for index, label in enumerate(axes.get_xticklabels()):
        label.set_visible(index % step == 0)
