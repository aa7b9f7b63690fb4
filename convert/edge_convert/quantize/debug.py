"""Where int8 loses: each layer of the int8 file against the same layer of the float32 file, worst first."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge.native_stderr import without_chatter
from edge_convert.backbones.contract import Backbone
from edge_convert.keras import tensorflow
from edge_convert.network import scaled
from edge_convert.progress import Progress, Steps
from edge_convert.quantize.ranges import Ranges, comparing, ranges_of
from edge_convert.quantize.watch import Watched, pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 20
NO_ERROR_DB = 120.0


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """One layer of the int8 file against the same one of the float32 file.

    name: of its tensor in the float32 file. operation: that makes it. order: in which it is computed.
    own_db: power of the layer's values over that of its own error, in decibels, where it is computed in int8 and in
    float32 from the same inputs; None for what the converter does not compare. own_steps: that error, root mean square,
    in steps of its output; rounding alone makes 0.29 (1 / sqrt(12)). sqnr_db: as own_db, with all the errors of the
    layers before it. low, high: the float32 values. clipped: the share of them that the int8 tensor cannot hold.
    """

    name: str
    operation: str
    order: int
    own_db: float | None
    own_steps: float | None
    sqnr_db: float
    low: float
    high: float
    clipped: float


def layer_errors(
    float32: bytes, int8: bytes, pictures: NDArray[np.uint8], backbone: Backbone
) -> Steps[tuple[LayerError, ...]]:
    """Compare every activation of the two files. pictures: (n, side, side, channels) uint8.

    Returns the worst first: by the layer's own error, then by what arrives there. Own errors are those of TensorFlow's
    QuantizationDebugger.
    """
    real, small = Watched(float32), Watched(int8)
    both = pairs(real, small)
    power, wrong = np.zeros(len(both)), np.zeros(len(both))
    low, high = np.full(len(both), np.inf), np.full(len(both), -np.inf)
    count, beyond = np.zeros(len(both)), np.zeros(len(both))
    for done, picture in enumerate(pictures, start=1):
        inputs = scaled(picture, backbone)
        real.run(inputs)
        small.run(inputs)
        for row, (wanted, found) in enumerate(both):
            values, given = real.read(wanted).astype(np.float64), small.read(found)
            power[row] += (values**2).sum()
            wrong[row] += ((values - given) ** 2).sum()
            low[row], high[row] = min(low[row], values.min()), max(high[row], values.max())
            least, most = small.limits(found)
            beyond[row] += ((values < least) | (values > most)).sum()
            count[row] += values.size
        yield Progress(done=done, total=len(pictures))
    own = _own_errors(float32, ranges_of(float32, int8, backbone), pictures, backbone)
    rows = []
    for row, (wanted, _) in enumerate(both):
        mean_square, step = own.get(wanted.name, (None, 0.0))
        rows.append(
            LayerError(
                name=wanted.name,
                operation=wanted.operation,
                order=wanted.order,
                own_db=None if mean_square is None else _decibels(power[row] / count[row], mean_square),
                own_steps=None if mean_square is None else float(np.sqrt(mean_square) / step),
                sqnr_db=_decibels(power[row], wrong[row]),
                low=float(low[row]),
                high=float(high[row]),
                clipped=float(beyond[row] / count[row]),
            )
        )
    return tuple(sorted(rows, key=lambda x: (x.own_db is None, x.own_db or 0.0, x.sqnr_db)))


def _decibels(power: float, wrong: float) -> float:
    """Signal over error; never above NO_ERROR_DB."""
    return float(min(10 * np.log10(max(power, 1e-30) / max(wrong, 1e-30)), NO_ERROR_DB))


def _own_errors(
    float32: bytes, ranges: Ranges, pictures: NDArray[np.uint8], backbone: Backbone
) -> dict[str, tuple[float, float]]:
    """Mean squared error of each layer alone, and its step, by its tensor's name in the float32 file."""
    tf = tensorflow()

    def inputs() -> Iterator[list[NDArray[np.float32]]]:
        for picture in pictures:
            yield [scaled(picture[np.newaxis], backbone)]

    with without_chatter(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")
        debugger = tf.lite.experimental.QuantizationDebugger(
            quant_debug_model_content=comparing(float32, ranges), debug_dataset=inputs
        )
        debugger.run()
    text = io.StringIO()
    debugger.layer_statistics_dump(text)
    rows = csv.DictReader(io.StringIO(text.getvalue()))
    return {row["tensor_name"]: (float(row["mean_squared_error"]), float(row["scale"])) for row in rows}


def render(layers: Sequence[LayerError], n: int, shown: int = SHOWN) -> str:
    """The worst layers for people: one a line."""
    lines = [
        f"error by layer, int8 against float32, {n} pictures; worst of {len(layers)} first",
        f"{'own dB':>7} {'steps':>6} {'all dB':>7} {'clipped':>8}  {'float range':<20} {'operation':<18} layer",
    ]
    for x in layers[:shown]:
        own = f"{'-':>7} {'-':>6}" if x.own_db is None or x.own_steps is None else f"{x.own_db:7.1f} {x.own_steps:6.2f}"
        ends = f"{x.low:.3g} .. {x.high:.3g}"
        lines.append(f"{own} {x.sqnr_db:7.1f} {x.clipped:8.4f}  {ends:<20} {x.operation:<18} {short(x.name)}")
    return "\n".join(lines)


def to_csv(layers: Sequence[LayerError]) -> str:
    """All layers, in the order of computation."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["order", "operation", "own_db", "own_steps", "sqnr_db", "low", "high", "clipped", "layer"])
    for x in sorted(layers, key=lambda layer: layer.order):
        figures = [
            "" if v is None else f"{v:.6g}" for v in (x.own_db, x.own_steps, x.sqnr_db, x.low, x.high, x.clipped)
        ]
        writer.writerow([x.order, x.operation, *figures, x.name])
    return text.getvalue()


def plot(layers: Sequence[LayerError], n: int) -> Figure:
    """Signal to error along the network, each layer's own and all together, with the worst layers named."""
    from matplotlib.figure import Figure

    ordered = sorted(layers, key=lambda layer: layer.order)
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.add_subplot()
    compared = [(x.order, x.own_db) for x in ordered if x.own_db is not None]
    axes.plot(*zip(*compared, strict=True), ".", color="#d55e00", label="of the layer alone")
    axes.plot(
        [x.order for x in ordered], [x.sqnr_db for x in ordered], linewidth=1, color="#0072b2", label="of all so far"
    )
    for x in [layer for layer in layers if layer.own_db is not None][:5]:
        axes.annotate(short(x.name, 28), (x.order, x.own_db), fontsize=6, xytext=(3, -8), textcoords="offset points")
    axes.legend(fontsize=8)
    axes.set_xlabel("layer, in the order of computation")
    axes.set_ylabel("signal to quantization error, dB")
    axes.set_title(f"int8 against float32 by layer, n = {n} pictures", fontsize=10)
    axes.grid(alpha=0.3)
    return figure


def short(name: str, length: int = 60) -> str:
    """A tensor's name without the parts that the converter merged into it."""
    first = name.split(";")[0].removesuffix(":0")
    first = first.split("/", 1)[1] if first.count("/") > 1 else first
    return first if len(first) <= length else "..." + first[3 - length :]
