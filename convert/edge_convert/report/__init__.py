"""The report that ends a build: one HTML file that stands alone, and the numbers behind its plots as CSV.

Importing this package is cheap; matplotlib and jinja2 are loaded when a report is written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_convert.prepare import Prepared
from edge_convert.prune.magnitude import LayerSparsity
from edge_convert.prune.plan_file import ChannelRecord
from edge_convert.quantize.record import QuantizeRecord
from edge_convert.recipe import Recipe
from edge_convert.reference import ReferenceSet
from edge_convert.report.tradeoff import Beside
from edge_convert.train.epoch import Epoch
from edge_convert.verify import Verification

__all__ = ["ReportInputs", "write_report"]


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """What a build leaves for its report.

    models: TFLite files by variant, `int8` and `float32`. history: the epochs of all phases, in order. calibration:
    names of the pictures that set the quantization ranges, of the training split or of the folder that the recipe
    names. bundle: the file that was written; None where a gate was missed. reference: the known cases that it carries.
    channels: what channel pruning removed; None where the recipe does not ask for it. quantized: how the
    int8 file came about. beside: the cases of a sweep, to be shown beside this build.
    """

    recipe: Recipe
    prepared: Prepared
    models: dict[str, bytes] = field(repr=False)
    verification: Verification
    history: tuple[Epoch, ...]
    sparsity: tuple[LayerSparsity, ...]
    calibration: tuple[str, ...]
    bundle: Path | None
    reference: ReferenceSet | None = None
    channels: ChannelRecord | None = None
    quantized: QuantizeRecord | None = None
    beside: Beside | None = None


def write_report(path: Path, inputs: ReportInputs) -> None:
    """Write the report to `path`, and the numbers behind each plot to `report_data/NAME.csv` beside it.

    The same inputs give the same bytes. A file is either wholly the new one or still the old one.
    """
    from edge_convert.report.page import write

    write(path, inputs)
