"""What files are worth against what they cost: a build's own, and the cases of a sweep beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from edge.errors import EdgeError
from edge.files import read_ordinary
from edge_convert.recipe import Recipe
from edge_convert.verify import Verification
from edge_runtime.evaluate import Evaluation
from edge_runtime.metrics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["dense", "magnitude", "2:4", "channels", "narrower"]
"""How a network was made smaller: not at all, by what pruning, or by a width multiplier and no pruning."""

STYLES: dict[Kind, tuple[str, str]] = {
    "dense": ("ink", "o"),
    "magnitude": ("blue", "s"),
    "2:4": ("green", "D"),
    "channels": ("vermillion", "^"),
    "narrower": ("quiet", "v"),
}
"""Colour and marker."""

COSTS = (
    ("latency_ms", "inference, one thread (ms)", 1.0),
    ("bytes", "file (MB)", 1e6),
    ("compressed_bytes", "file, compressed (MB)", 1e6),
)
LETTERS = "abcdefgh"
"""Labels of a build's own files, in the order of its sizes."""

QUALITIES = (("auc", "AUC (share)"), ("specificity", "specificity at the target (share)"))


@dataclass(frozen=True, kw_only=True)
class Spot:
    """One file. label: what is written beside it; name: in full. width: the network's multiplier. floats: whether it
    computes in float32.

    auc, specificity: on validation, the latter at the target sensitivity. latency_ms: of the network alone, one thread;
    the wall clock's median of a build's own files, processor time of a sweep's. bytes, compressed_bytes: as it is, and
    after gzip. faint: drawn pale, for what is not worth a look.
    """

    label: str
    name: str
    kind: Kind
    width: float
    auc: Interval
    specificity: Interval
    latency_ms: float
    bytes: int
    compressed_bytes: int
    floats: bool = False
    faint: bool = False


@dataclass(frozen=True, kw_only=True)
class Beside:
    """The cases of a sweep. n, n_positive, target: the validation pictures, and the sensitivity that was asked of them.

    machine: where all were timed together.
    """

    spots: tuple[Spot, ...]
    n: int
    n_positive: int
    target: float
    machine: str

    def is_of(self, evaluation: Evaluation) -> bool:
        """Whether the cases were measured on as many pictures, and at the same target: else they do not compare."""
        measured = evaluation.n, evaluation.n_positive, evaluation.standing.profile.sensitivity
        return measured == (self.n, self.n_positive, self.target)


def kind_of(recipe: Recipe) -> Kind:
    """How the recipe's network is made smaller."""
    if recipe.prune.removes_channels:
        return "channels"
    if recipe.prune.makes_zeros:
        return "2:4" if recipe.prune.pattern == "2:4" else "magnitude"
    return "narrower" if recipe.network.width < 1 else "dense"


def own_spots(recipe: Recipe, verification: Verification) -> tuple[Spot, ...]:
    """The build's own files that were measured and timed."""
    unpruned = kind_of(replace(recipe, prune=replace(recipe.prune, method="none")))
    return tuple(
        Spot(
            label=letter,
            name=f"this build, {size.name}",
            kind=unpruned if size.name.endswith("not pruned") else kind_of(recipe),
            width=recipe.network.width,
            auc=size.auc,
            specificity=size.specificity,
            latency_ms=size.infer_ms,
            bytes=size.bytes,
            compressed_bytes=size.compressed_bytes,
            floats=not size.name.startswith("int8"),
        )
        for letter, size in zip(LETTERS, verification.sizes, strict=False)
        if size.auc is not None and size.specificity is not None and size.infer_ms is not None
    )


def read_beside(path: Path) -> Beside:
    """The cases of a sweep from its `sweep.json`. Raises EdgeError where it is none, or none of its cases was built."""
    remedy = "name the sweep.json that `edge sweep` wrote"
    try:
        fields = json.loads(read_ordinary(path))
        measured = [(place, case) for place, case in enumerate(fields["cases"], start=1) if case["auc"] is not None]
        spots = tuple(_spot(place, case) for place, case in measured)
        of = {(case["n"], case["n_positive"], case["target_sensitivity"]) for _, case in measured}
        machine = f"{fields['machine']['cpu']}, {fields['machine']['interpreter']}"
    except FileNotFoundError:
        raise EdgeError(f"there is no file {path}", remedy=remedy) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EdgeError(f"{path} cannot be read as the results of a sweep ({error!r})", remedy=remedy) from None
    if len(of) != 1:
        raise EdgeError(
            f"the cases of {path} were measured on {len(of)} different sets of pictures or targets",
            remedy="name a sweep whose cases were built and have one data set and one profile",
        )
    ((n, n_positive, target),) = of
    return Beside(spots=spots, n=n, n_positive=n_positive, target=target, machine=machine)


def _spot(place: int, case: dict[str, Any]) -> Spot:
    if case["kind"] not in get_args(Kind):
        raise ValueError(case["kind"])
    missed = case["state"] != "built"
    return Spot(
        label=f"{place}",
        name=f"{case['case']}{', GATE MISSED' if missed else ''}",
        kind=case["kind"],
        width=float(case["width"]),
        auc=_interval(case, "auc"),
        specificity=_interval(case, "specificity"),
        latency_ms=float(case["latency_ms"]),
        bytes=int(case["bytes"]),
        compressed_bytes=int(case["compressed_bytes"]),
        faint=missed,
    )


def _interval(case: dict[str, Any], name: str) -> Interval:
    return Interval(value=float(case[name]), low=float(case[f"{name}_low"]), high=float(case[f"{name}_high"]))


def plot_tradeoff(spots: Sequence[Spot], words: str) -> Figure:
    """AUC and specificity with their 95 % intervals over time, size and compressed size. words: the title, with n.

    The marker is the kind of pruning; hollow ones compute in float32; a width other than 1 stands beside the label.
    """
    from matplotlib.figure import Figure

    from edge_convert.report.inline import day
    from edge_convert.report.plots import dress

    figure = Figure(figsize=(9.4, 5.6), layout="constrained", facecolor="none")
    panels = figure.subplots(2, 3, sharex="col", sharey="row", subplot_kw={"facecolor": "none"})
    for row, (quality, quality_words) in zip(panels, QUALITIES, strict=True):
        for axes, (cost, _, unit) in zip(row, COSTS, strict=True):
            dress(axes)
            for place, spot in enumerate(spots):
                # Marks of like files lie on one another: their labels in three rows.
                _draw(axes, spot, getattr(spot, quality), getattr(spot, cost) / unit, below=9 * (place % 3))
            axes.set_xlim(0, 1.2 * max(getattr(spot, cost) / unit for spot in spots))
        row[0].set_ylabel(quality_words, fontsize=9.5, color=day("ink"))
    for axes, (_, cost_words, _) in zip(panels[-1], COSTS, strict=True):
        axes.set_xlabel(cost_words, fontsize=9.5, color=day("ink"))
    figure.suptitle(words, fontsize=10, x=0.01, ha="left", color=day("ink"))
    seen = dict.fromkeys(spot.kind for spot in spots)
    handles = [
        panels[0][0].plot([], [], color=day(colour), marker=marker, linewidth=0, markersize=6)[0]
        for colour, marker in (STYLES[kind] for kind in seen)
    ]
    figure.legend(
        handles, list(seen), loc="outside lower left", ncols=5, frameon=False, fontsize=9, labelcolor=day("ink")
    )
    return figure


def _draw(axes: Any, spot: Spot, value: Interval, cost: float, *, below: float) -> None:
    from edge_convert.report.inline import day

    colour, marker = STYLES[spot.kind]
    axes.errorbar(
        [cost],
        [value.value],
        yerr=[[max(0.0, value.value - value.low)], [max(0.0, value.high - value.value)]],
        color=day(colour),
        marker=marker,
        markersize=6,
        markerfacecolor="none" if spot.floats else day(colour),
        linewidth=0,
        elinewidth=0.9,
        alpha=0.45 if spot.faint else 1,
    )
    axes.annotate(
        spot.label if spot.width == 1 else f"{spot.label} ({spot.width:g})",
        (cost, value.value),
        xytext=(5, 3 - below),
        textcoords="offset points",
        fontsize=8.5,
        color=day("ink"),
    )
