"""`edge backbones`: the table of networks. Parses, calls one function, prints."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge_convert.backbones.contract import Backbone
    from edge_convert.backbones.cost import Cost
    from edge_convert.measured import Measured
    from edge_convert.progress import Progress
    from edge_runtime.timing import Machine


@dataclass(frozen=True, kw_only=True)
class Row:
    """One network of the table. measured: None where it was not measured on this machine."""

    backbone: Backbone
    cost: Cost
    measured: Measured | None


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--measure", is_flag=True, help="Export each network with random weights and time it on this machine.")
@click.option("--side", "side_px", type=click.IntRange(32, 1024), default=224, show_default=True, help="Input, pixels.")
@click.option("--width", type=click.FloatRange(0.1, 2), default=1.0, show_default=True, help="Channel multiplier.")
@click.option("--json", is_flag=True, help="Print the table as JSON.")
def backbones(names: tuple[str, ...], measure: bool, side_px: int, width: float, json: bool) -> None:
    """List the networks that `network.backbone` can name, or those named, with their cost.

    Parameters, multiply-adds and the size of a float32 file are counted without the last layer. ImageNet top-1 is of
    the published network, with its own last layers, as its source gives it. A weight file works with every one.
    Sizes and times of exported files are of this machine, one thread, once they were measured; they are kept.
    """
    from edge_convert.backbones import BACKBONES, find_backbone
    from edge_convert.backbones.cost import cost_of
    from edge_convert.measured import cache_path, kept_of
    from edge_runtime.timing import this_machine

    chosen = [find_backbone(name) for name in dict.fromkeys(names or BACKBONES)]
    for backbone in chosen:
        backbone.check(side_px, width, "none")
    machine = this_machine()
    if measure:
        _measure([backbone.name for backbone in chosen], side_px, width, machine)
    kept = kept_of(cache_path(), machine)
    rows = []
    with progress_bar() as bar:
        for done, backbone in enumerate(chosen):
            bar.show("counting", done, len(chosen))
            measured = kept.get((backbone.name, side_px, width))
            rows.append(Row(backbone=backbone, cost=cost_of(backbone, side_px, width), measured=measured))
    click.echo(json_format.dumps([_fields(row, machine) for row in rows], indent=2) if json else _table(rows, machine))


def _measure(names: Sequence[str], side_px: int, width: float, machine: Machine) -> None:
    """Measure and keep; what is being done goes to stderr."""
    from edge_convert.measured import cache_path, keep, measure
    from edge_convert.progress import finish

    with progress_bar() as bar:

        def show(progress: Progress) -> None:
            if progress.note:
                bar.close()
                click.echo(f"{progress.note} ({progress.done + 1} of {progress.total})", err=True)
            else:
                bar.show("timing", progress.done, progress.total)

        rows = finish(measure(names, side_px=side_px, width=width), show)
    keep(cache_path(), machine, rows)


def _fields(row: Row, machine: Machine) -> dict[str, Any]:
    from edge.fields import plain

    backbone, cost, published = row.backbone, row.cost, row.backbone.published
    return {
        "name": backbone.name,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "float32_mb": round(cost.float32_mb, 1),
        "input_scale": backbone.input_scale,
        "input_zero_point": backbone.input_zero_point,
        "min_side_px": backbone.min_side_px,
        "heads": list(backbone.heads),
        "blocks": len(backbone.block_starts),
        "weights": [*backbone.sources, "none"],
        "pretrained_widths": list(backbone.pretrained_widths) if backbone.sources else [],
        "imagenet_top1": published.top1 if published else None,
        "imagenet_top1_source": published.source if published else None,
        "kernels": cost.kernels,
        "prunable_layers": cost.prunable_layers,
        "prunable_share": round(cost.prunable_share, 4),
        "notes": backbone.notes,
        "quantization": backbone.quantization,
        "measured": {**plain(row.measured), **plain(machine)} if row.measured else None,
    }


def _table(rows: Sequence[Row], machine: Machine) -> str:
    """Columns under their heads, then sentences a network, which fit no column."""
    head = ("backbone", "params", "mult-adds", "float32", "int8", "int8 ms", "f32 ms", "prunable", "side", "weights")
    cells = [(*head, "top-1", "source")]
    for row in rows:
        backbone, cost, published = row.backbone, row.cost, row.backbone.published
        cells.append(
            (
                backbone.name,
                f"{cost.parameters / 1e6:.2f} M",
                f"{cost.multiply_adds / 1e6:,.0f} M",
                f"{cost.float32_mb:.1f} MB",
                *_measured_cells(row.measured),
                f"{cost.prunable_layers} of {cost.kernels}, {cost.prunable_share:.0%}",
                f">= {backbone.min_side_px}",
                ", ".join((*backbone.sources, "none")),
                f"{published.top1}" if published else "",
                published.source if published else "",
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    notes = [
        f"{row.backbone.name:<{widths[0]}}  {row.backbone.notes}; int8: {row.backbone.quantization}" for row in rows
    ]
    return "\n".join([*lines, "", *notes, "", _footing(rows, machine)])


def _measured_cells(measured: Measured | None) -> tuple[str, str, str]:
    if measured is None:
        return "-", "-", "-"
    return f"{measured.int8_bytes / 1e6:.2f} MB", f"{measured.int8_ms:.1f}", f"{measured.float32_ms:.1f}"


def _footing(rows: Sequence[Row], machine: Machine) -> str:
    """What the measured columns are, or how to get them."""
    found = [row.measured for row in rows if row.measured]
    here = f"{machine.cpu}, {machine.interpreter}, edge-screen {machine.package}"
    lines = []
    if found:
        lines.append(f"measured, one thread, median of {min(m.rounds for m in found)} rounds in turns: {here}")
    if any(m.busy for m in found):
        lines.append(
            "the machine did other work meanwhile, which stretches these times: measure again when it is quiet"
        )
    if len(found) < len(rows):
        lines.append(f"-: not measured on this machine ({here}); `edge backbones --measure [NAME...]` does it")
    return "\n".join(lines)
