"""`edge time`: parse, time, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from edge.cli import FILE
from edge.progress_bar import progress_bar


@click.command()
@click.argument("files", type=FILE, nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="Machine, unit and costs as one JSON object.")
def time(files: tuple[Path, ...], as_json: bool) -> int:
    """What an inference of each of the TFLite FILES costs here: processor time on one thread, in turns.

    With - for FILES, a tar archive of them from standard input: how `edge convert --clock` asks a device.
    """
    from edge.fields import plain
    from edge.files import read_ordinary
    from edge.steps import finish
    from edge_runtime.timing import MICROSECONDS, Costs, read_models, this_machine, time_models

    if Path("-") in files:
        if len(files) > 1 or sys.stdin is None:
            raise click.UsageError("- takes all files from standard input, and is named alone")
        models = read_models(sys.stdin.buffer)
    else:
        models = [(str(path), read_ordinary(path)) for path in files]
    with progress_bar() as bar:
        costs = finish(time_models(models), lambda far: bar.show("timing", *far))
    found = Costs(machine=this_machine().key, unit=MICROSECONDS, costs=tuple(costs))
    if as_json:
        click.echo(json.dumps(plain(found)))
        return 0
    click.echo(f"{found.unit}, median, one thread, in turns: {found.machine}")
    for (name, model), cost in zip(models, costs, strict=True):
        click.echo(f"{cost:10.1f}  {cost / costs[0]:6.3f} of the first  {len(model):>10,} bytes  {name}")
    return 0
