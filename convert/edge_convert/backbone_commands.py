"""`edge backbones`: the table of networks. Parses, calls one function, prints."""

from __future__ import annotations

import json as json_format
from typing import TYPE_CHECKING, Any

import click

from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge_convert.backbones.contract import Backbone
    from edge_convert.backbones.cost import Cost


@click.command()
@click.option("--json", is_flag=True, help="Print the table as JSON.")
def backbones(json: bool) -> None:
    """List the networks that `network.backbone` can name, with their cost at 224 px.

    Parameters, multiply-adds and the size of a float32 file are counted without the last layer. ImageNet top-1 is of
    the published network, with its own last layers, as its source gives it. A weight file works with every one.
    """
    from edge_convert.backbones import BACKBONES
    from edge_convert.backbones.cost import cost_of

    rows = []
    with progress_bar() as bar:
        for done, backbone in enumerate(BACKBONES.values()):
            bar.show("counting", done, len(BACKBONES))
            rows.append((backbone, cost_of(backbone)))
    click.echo(json_format.dumps([_fields(*row) for row in rows], indent=2) if json else _table(rows))


def _fields(backbone: Backbone, cost: Cost) -> dict[str, Any]:
    published = backbone.published
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
        "notes": backbone.notes,
    }


def _table(rows: list[tuple[Backbone, Cost]]) -> str:
    """Columns under their heads, then a note a network: notes are sentences and fit no column."""
    head = ("backbone", "params", "mult-adds", "float32", "input", "side", "weights", "top-1", "source")
    cells = [head]
    for backbone, cost in rows:
        published = backbone.published
        cells.append(
            (
                backbone.name,
                f"{cost.parameters / 1e6:.2f} M",
                f"{cost.multiply_adds / 1e6:,.0f} M",
                f"{cost.float32_mb:.1f} MB",
                f"(p - {backbone.input_zero_point}) / {1 / backbone.input_scale:g}",
                f">= {backbone.min_side_px}",
                ", ".join((*backbone.sources, "none")),
                f"{published.top1}" if published else "",
                published.source if published else "",
            )
        )
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    notes = [f"{backbone.name:<{widths[0]}}  {backbone.notes}" for backbone, _ in rows]
    return "\n".join([*lines, "", *notes])
