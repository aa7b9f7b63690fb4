"""What a network's layers cost on this machine, by how many channels they have: a table, measured through the runtime.

Each layer's operation is timed on its own at several channel counts, as an int8 file in the runtime's interpreter on
one thread, all of them in turns; between them the table is interpolated. It is kept on disk: a build that goes on after
a kill must plan with the same numbers.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edge.fields import build, plain
from edge.files import write_atomically
from edge.native_stderr import without_chatter
from edge_convert.keras import keras
from edge_convert.measured import this_machine
from edge_convert.progress import Progress, Steps
from edge_convert.prune.graph import ChannelGraph, inputs_of, makes_channels
from edge_convert.prune.piece import Kind, Piece, as_tflite
from edge_runtime.interpreter import find_interpreter

MULTIPLE = 8
"""Channels are removed by as many: XNNPACK's kernels work on 8, 16 or 32 at a time, and pad the rest."""

ROUNDS = 30
FEWEST_ROUNDS = 5
SECONDS = 60.0
"""What measuring a table may take, roughly; large networks get fewer rounds."""

CALLS = 3
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, kw_only=True)
class TimedLayer:
    """A layer that costs time. piece: its operation at full width. takes, gives: the groups along its channel axes,
    in and out, as `ChannelGraph.segments`.
    """

    name: str
    piece: Piece
    takes: tuple[str, ...]
    gives: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Median microseconds of a piece, (taken, given), at the channel counts along the two axes."""

    taken: tuple[int, ...]
    given: tuple[int, ...]
    us: tuple[tuple[float, ...], ...]

    def at(self, taken: int, given: int) -> float:
        """Interpolated between its points, the nearest edge's value beyond them."""
        by_taken = [float(np.interp(given, self.given, row)) for row in self.us]
        return float(np.interp(taken, self.taken, by_taken))


@dataclass(frozen=True, kw_only=True)
class _Row:
    piece: Piece
    grid: Grid


@dataclass(frozen=True, kw_only=True)
class _Kept:
    rows: tuple[_Row, ...]


class LatencyTable:
    """Times of a network's layers by their channels."""

    def __init__(self, layers: Sequence[TimedLayer], grids: Mapping[Piece, Grid]) -> None:
        self.layers, self._grids = tuple(layers), grids
        self._known: dict[tuple[Piece, int, int], float] = {}

    def layer_us(self, layer: TimedLayer, taken: int, given: int) -> float:
        """Microseconds of a layer with so many channels in and out."""
        key = (layer.piece, taken, given)
        if key not in self._known:
            self._known[key] = self._grids[layer.piece].at(taken, given)
        return self._known[key]


def timed_layers(graph: ChannelGraph) -> list[TimedLayer]:
    """The layers that become operations of their own in the exported file; the others are folded into these."""
    found = []
    for layer in graph.model.layers:
        for piece in _pieces(layer):
            inputs = inputs_of(layer)
            widest = max(inputs, key=lambda tensor: int(np.prod(tensor.shape[1:])))
            takes, gives = graph.segments(widest), graph.segments(layer.output)
            found.append(TimedLayer(name=layer.name, piece=piece, takes=takes, gives=gives))
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


def measure_table(graph: ChannelGraph, path: Path) -> Steps[LatencyTable]:
    """Time the network's layers, or read what was timed on this machine before. path: the JSON file that keeps it."""
    layers = timed_layers(graph)
    machine = this_machine().key
    kept = _read(path, machine)
    missing = [piece for piece in dict.fromkeys(layer.piece for layer in layers) if piece not in kept]
    axes = _axes_of(graph, layers)
    if missing:
        points = [
            _at(piece, taken, given)
            for piece in missing
            for taken in axes[piece][0]
            for given in (axes[piece][1] if _has_two_axes(piece) else (taken,))
        ]
        times = yield from time_pieces(points)
        for piece in missing:
            kept[piece] = _grid(piece, axes[piece], times)
        rows = [_Row(piece=piece, grid=grid) for piece, grid in kept.items()]
        write_atomically(path, json.dumps({"machine": machine, "rows": plain(rows)}).encode())
    return LatencyTable(layers, kept)


def time_pieces(points: Sequence[Piece]) -> Steps[dict[Piece, float]]:
    """Median microseconds of each piece's inference by the thread's clock, one thread, in turns."""
    distinct = list(dict.fromkeys(points))
    runs = []
    for done, piece in enumerate(distinct):
        runs.append(_prepared(as_tflite(piece)))
        yield Progress(done=done + 1, total=2 * len(distinct))
    start = time.perf_counter()
    for run in runs:
        run()
    rounds = int(np.clip(SECONDS / max(time.perf_counter() - start, 1e-3) / CALLS, FEWEST_ROUNDS, ROUNDS))
    found: list[list[float]] = [[] for _ in runs]
    for number in range(rounds):
        for run, taken in zip(runs, found, strict=True):
            taken.append(min(run() for _ in range(CALLS)))
        done = len(distinct) + len(distinct) * (number + 1) // rounds
        yield Progress(done=done, total=2 * len(distinct))
    return {piece: float(np.median(taken)) for piece, taken in zip(distinct, found, strict=True)}


def _prepared(model: bytes) -> Callable[[], float]:
    """One inference of an int8 file on random numbers; gives its microseconds by the thread's clock."""
    with without_chatter():
        interpreter = find_interpreter()[1](model_content=model, num_threads=1)
        interpreter.allocate_tensors()
    random = np.random.default_rng(1)
    for entry in interpreter.get_input_details():
        limits = np.iinfo(entry["dtype"])
        numbers = random.integers(limits.min, limits.max + 1, entry["shape"]).astype(entry["dtype"])
        interpreter.set_tensor(entry["index"], numbers)

    def run() -> float:
        before = time.thread_time_ns()
        interpreter.invoke()
        return (time.thread_time_ns() - before) / 1e3

    return run


def compare(models: Sequence[bytes], *, rounds: int = 60) -> list[float]:
    """Median microseconds of an inference of each int8 file, one thread, by the thread's clock, in turns."""
    runs = [_prepared(model) for model in models]
    found: list[list[float]] = [[] for _ in runs]
    for number in range(rounds + 3):
        order = range(len(runs)) if number % 2 else reversed(range(len(runs)))
        for place in order:
            taken = runs[place]()
            if number >= 3:  # the first rounds warm
                found[place].append(taken)
    return [float(np.median(taken)) for taken in found]


def _has_two_axes(piece: Piece) -> bool:
    """Whether channels in and out are different things."""
    return piece.kind in ("conv", "dense")


def _at(piece: Piece, taken: int, given: int) -> Piece:
    return replace(piece, taken=taken, given=given)


def _axes_of(graph: ChannelGraph, layers: Sequence[TimedLayer]) -> dict[Piece, tuple[tuple[int, ...], tuple[int, ...]]]:
    """The channel counts, in and out, to measure each piece at.

    Of several layers with one piece some may be cut and others not: it is measured for those that may.
    """
    found: dict[Piece, tuple[tuple[int, ...], tuple[int, ...]]] = {}
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


def _grid(piece: Piece, axes: tuple[tuple[int, ...], tuple[int, ...]], times: Mapping[Piece, float]) -> Grid:
    taken, given = axes
    if not _has_two_axes(piece):
        return Grid(taken=taken, given=(piece.given,), us=tuple((times[_at(piece, t, t)],) for t in taken))
    return Grid(taken=taken, given=given, us=tuple(tuple(times[_at(piece, t, g)] for g in given) for t in taken))


def _read(path: Path, machine: str) -> dict[Piece, Grid]:
    """What was kept of this machine; nothing where the file is of another one, or damaged: then it is measured anew."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["machine"] != machine:
            return {}
        return {row.piece: row.grid for row in build(_Kept, {"rows": kept["rows"]}).rows}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
