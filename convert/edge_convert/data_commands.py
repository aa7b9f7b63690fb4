"""`edge data`: check a labelled data set, or render a synthetic one. Parses, calls one function, prints."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.errors import DataError
from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge_convert.progress import Progress


@click.group()
def data() -> None:
    """Check a labelled data set, or render a synthetic one."""


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--group-pattern", metavar="RE", help="Finds the patient or slide in each name, by one capture group.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the splits, where DIR has none."
)
@click.option("--json", is_flag=True, help="Print the whole report as JSON.")
def check(folder: Path, group_pattern: str | None, seed: int, json: bool) -> int:
    """Say what is in DIR, what cannot be read, and what leaks between splits.

    DIR holds a manifest.csv (columns path,label and optionally group,split,boxes_xywh) or one folder per
    class. Without a split column, splits are made by group and these are checked. Exits 1 on a leak.
    """
    from edge.dataset import read_dataset
    from edge_convert.data.check import check_dataset
    from edge_convert.data.text import render_text
    from edge_convert.progress import finish

    dataset = read_dataset(folder, group_pattern=group_pattern)
    with progress_bar() as bar:

        def draw(step: Progress) -> None:
            bar.show("checking", step.done, step.total)

        report = finish(check_dataset(dataset, seed=seed), draw)
    click.echo(json_format.dumps(report.to_json(), indent=2) if json else render_text(report))
    if not report.grey + report.colour:
        raise DataError(
            "no picture of the data set can be read", remedy="see the reasons above; copy the pictures again"
        )
    return 1 if report.leaks else 0


@data.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--tiles", type=click.IntRange(min=1), default=1200, show_default=True, help="How many pictures.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="The same seed, the same pictures."
)
def render(folder: Path, tiles: int, seed: int) -> None:
    """Render a synthetic data set of blood smear tiles into DIR, with splits and marked parasites.

    It is for trying the tool out: nothing about patients follows from it.
    """
    from edge_convert.synthetic import render_dataset

    with progress_bar() as bar:
        for done in render_dataset(folder, tiles=tiles, seed=seed):
            bar.show("rendering", done, tiles)
    click.echo(f"rendered {tiles:,} tiles into {folder}")
