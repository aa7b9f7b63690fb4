"""What a network's layers cost, by how many channels they have: a table, measured through the runtime by a clock.

Each layer's operation is measured on its own at several channel counts, as an int8 file in the runtime's interpreter on
one thread; between them the table is interpolated. It is kept on disk: a build that goes on after a kill must plan with
the same numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.fields import build, plain
from edge.files import write_atomically
from edge_convert.keras import keras
from edge_convert.progress import Progress, Steps
from edge_convert.prune.clock import Clock
from edge_convert.prune.graph import ChannelGraph, inputs_of, makes_channels
from edge_convert.prune.piece import Kind, Piece, as_tflite

MULTIPLE = 8
"""Channels are removed by as many: XNNPACK's kernels work on 8, 16 or 32 at a time, and pad the rest."""

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
Axes = tuple[tuple[int, ...], tuple[int, ...]]
"""Channel counts, in and out."""


@dataclass(frozen=True, kw_only=True)
class CostlyLayer:
    """A layer that is an operation of its own in the exported file.

    piece: that operation at full width. takes, gives: the groups along its channel axes, in and out, as
    `ChannelGraph.segments`.
    """

    name: str
    piece: Piece
    takes: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What a piece costs, (taken, given), at the channel counts along the two axes, in the clock's unit."""

    taken: tuple[int, ...]
    given: tuple[int, ...]
    costs: tuple[tuple[float, ...], ...]

    def at(self, taken: int, given: int) -> float:
        """Interpolated between its points, the nearest edge's value beyond them."""
        by_taken = [float(np.interp(given, self.given, row)) for row in self.costs]
        return float(np.interp(taken, self.taken, by_taken))


@dataclass(frozen=True, kw_only=True)
class _Row:
    piece: Piece
    grid: Grid


@dataclass(frozen=True, kw_only=True)
class _Kept:
    rows: tuple[_Row, ...]


class LatencyTable:
    """Costs of a network's layers by their channels."""

    def __init__(self, layers: Sequence[CostlyLayer], grids: Mapping[Piece, Grid]) -> None:
        self.layers, self._grids = tuple(layers), grids
        self._known: dict[tuple[Piece, int, int], float] = {}

    def layer_cost(self, layer: CostlyLayer, taken: int, given: int) -> float:
        """What a layer costs with so many channels in and out."""
        key = (layer.piece, taken, given)
        if key not in self._known:
            self._known[key] = self._grids[layer.piece].at(taken, given)
        return self._known[key]


def costly_layers(graph: ChannelGraph) -> list[CostlyLayer]:
    """The layers that become operations of their own in the exported file; the others are folded into these."""
    found = []
    for layer in graph.model.layers:
        for piece in _pieces(layer):
            inputs = inputs_of(layer)
            widest = max(inputs, key=lambda tensor: int(np.prod(tensor.shape[1:])))
            takes, gives = graph.segments(widest), graph.segments(layer.output)
            found.append(CostlyLayer(name=layer.name, piece=piece, takes=takes, gives=gives))
    return found


def _pieces(layer: Any) -> list[Piece]:
    layers = keras().layers
    kind = type(layer).__name__
    if kind == "InputLayer":
        return []
    shape = max((tensor.shape for tensor in inputs_of(layer)), key=lambda s: int(np.prod(s[1:])))
    rows, columns = shape[1:3] if len(shape) == 4 else (1, 1)
    whole = Piece(kind="add", rows=rows, columns=columns, taken=shape[-1], given=layer.output.shape[-1])
    if isinstance(layer, layers.DepthwiseConv2D) or (makes_channels(layer) and not isinstance(layer, layers.Dense)):
        named: Kind = "depthwise" if isinstance(layer, layers.DepthwiseConv2D) else "conv"
        return [_moved(whole, named, layer.kernel_size, layer)]
    if isinstance(layer, layers.Dense):
        return [replace(whole, kind="dense")]
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        return [_moved(whole, "max_pool" if kind.startswith("Max") else "average_pool", layer.pool_size, layer)]
    if kind == "GlobalAveragePooling2D":
        return [replace(whole, kind="mean")]
    if kind == "Activation" and layer.activation.__name__ in ("swish", "silu"):
        return [replace(whole, kind="logistic"), whole]
    if kind == "Multiply":
        return [replace(whole, kind="multiply")]
    return [whole] if kind == "Add" else []


def _moved(whole: Piece, kind: Kind, kernel: tuple[int, int], layer: Any) -> Piece:
    """With the kernel that slides over the input."""
    (high, wide), (down, across) = kernel, layer.strides
    return replace(whole, kind=kind, kernel=(high, wide), stride=(down, across), same=layer.padding == "same")


def measure_table(graph: ChannelGraph, path: Path, clock: Clock) -> Steps[LatencyTable]:
    """Measure the network's layers, or read what was measured there before. path: the JSON file that keeps it."""
    layers = costly_layers(graph)
    machine = ", ".join((yield from clock.measure([])).scale)
    kept = _read(path, machine)
    missing = [piece for piece in dict.fromkeys(layer.piece for layer in layers) if piece not in kept]
    axes = _axes_of(graph, layers)
    if missing:
        points = dict.fromkeys(
            _at(piece, taken, given)
            for piece in missing
            for taken in axes[piece][0]
            for given in (axes[piece][1] if _has_two_axes(piece) else (taken,))
        )
        note = f"measuring what {len(missing)} kinds of layer cost, by {len(points)} small int8 files"
        yield Progress(done=0, total=len(points), note=note)
        found = yield from clock.measure([as_tflite(piece) for piece in points])
        costs = dict(zip(points, found.costs, strict=True))
        for piece in missing:
            kept[piece] = _grid(piece, axes[piece], costs)
        rows = [_Row(piece=piece, grid=grid) for piece, grid in kept.items()]
        write_atomically(path, json.dumps({"machine": machine, "rows": plain(rows)}).encode())
    return LatencyTable(layers, kept)


def _has_two_axes(piece: Piece) -> bool:
    """Whether channels in and out are different things."""
    return piece.kind in ("conv", "dense")


def _at(piece: Piece, taken: int, given: int) -> Piece:
    return replace(piece, taken=taken, given=given)


def _axes_of(
    graph: ChannelGraph, layers: Sequence[CostlyLayer]
) -> dict[Piece, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The channel counts, in and out, to measure each piece at.

    Of several layers with one piece some may be cut and others not: it is measured for those that may.
    """
    found: dict[Piece, Axes] = {}
    for layer in layers:
        piece = layer.piece
        taken, given = found.get(piece, ((), ()))
        found[piece] = (
            max(taken, _axis(graph, layer.takes, piece.taken), key=len),
            max(given, _axis(graph, layer.gives, piece.given), key=len),
        )
    return found


def _axis(graph: ChannelGraph, names: Sequence[str], size: int) -> tuple[int, ...]:
    """The channel counts to measure at: one where nothing can be removed."""
    if not any(name in graph.groups for name in names):
        return (size,)
    points = {max(1, min(size, round(size * share / MULTIPLE) * MULTIPLE or MULTIPLE)) for share in SHARES}
    return tuple(sorted({*points, size}))


def _grid(piece: Piece, axes: Axes, costs: Mapping[Piece, float]) -> Grid:
    taken, given = axes
    if not _has_two_axes(piece):
        return Grid(taken=taken, given=(piece.given,), costs=tuple((costs[_at(piece, t, t)],) for t in taken))
    return Grid(taken=taken, given=given, costs=tuple(tuple(costs[_at(piece, t, g)] for g in given) for t in taken))


def _read(path: Path, machine: str) -> dict[Piece, Grid]:
    """What was kept of this machine; nothing where the file is of another one, or damaged: then it is measured anew."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["machine"] != machine:
            return {}
        return {row.piece: row.grid for row in build(_Kept, {"rows": kept["rows"]}).rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
