"""`edge bench`: parse, measure, print."""

from __future__ import annotations

import json
from pathlib import Path

import click

from edge.cli import FILE
from edge.progress_bar import progress_bar
from edge_runtime.talk import tell


@click.command()
@click.argument("bundle", type=FILE)
@click.argument("pictures", type=FILE, nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="The measurement as one JSON object.")
@click.option("--compare", is_flag=True, help="Also the bare interpreter, onnxruntime and OpenVINO, where installed.")
@click.option(
    "--delegate",
    "delegates",
    multiple=True,
    default=["cpu"],
    show_default=True,
    metavar="auto|cpu|gpu|PATH[,KEY=VALUE...]",
    help="What runs the network; several are run in turns.",
)
@click.option("--rounds", type=click.IntRange(2, 100_000), default=100, show_default=True, help="After the warm-up.")
@click.option("--threads", type=click.IntRange(1, 64), help="Processor threads. Default: up to 4.")
def bench(
    bundle: Path,
    pictures: tuple[Path, ...],
    as_json: bool,
    compare: bool,
    delegates: tuple[str, ...],
    rounds: int,
    threads: int | None,
) -> int:
    """Time BUNDLE on this machine, with PICTURES (files or folders) or its golden ones.

    Decoding, preprocessing, inference, heat map and the whole, in milliseconds, for each of the bundle's models, in
    turns; peak memory; temperature and throttling where the machine tells. Pictures lie in memory: disks are not timed.
    """
    from edge.fields import plain
    from edge_runtime.bench import WARM_UP, Bench, render
    from edge_runtime.bench import bench as measure
    from edge_runtime.pictures import expand

    named = expand(pictures)
    if pictures:
        named.require_some()
    tell(named.passed_over())
    found = [_read(path) for path in named]
    with progress_bar() as bar:
        for result in measure(bundle, found, rounds=rounds, threads=threads, delegates=delegates, compare=compare):
            if isinstance(result, Bench):
                break
            bar.show("timing", result, WARM_UP + rounds)
    assert isinstance(result, Bench)
    click.echo(json.dumps(plain(result)) if as_json else render(result))
    return 0


def _read(path: Path) -> tuple[str, bytes]:
    """A picture's name and bytes. Raises PictureError with the name."""
    from edge.names import printable
    from edge_runtime.pictures import naming
    from edge_runtime.pipeline import read_picture

    name = printable(str(path))
    with naming(name):
        return name, read_picture(path)
