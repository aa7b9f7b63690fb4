"""The workstation's command: parse, call the pipeline, draw its progress. Nothing heavy is imported before it runs."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import FILE
from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge_convert.builder import StageEvent
    from edge_convert.pipeline import Build


@click.command()
@click.argument("recipe", type=FILE)
@click.option("--data", type=FILE, required=True, help="Labelled pictures: manifest.csv or a folder a class.")
@click.option("--out", type=FILE, required=True, help="The build's folder; an interrupted build in it goes on.")
@click.option("--from", "start", metavar="STAGE", help="Run this stage and those after it again.")
@click.option("--group-pattern", metavar="RE", help="Finds the patient or slide in each name, by one capture group.")
@click.option("--drop-leaks", is_flag=True, help="Leave pictures that leak into a later split out, and say which.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, help="Train with this many seeds; mean and spread.")
@click.option("--folds", type=click.IntRange(min=3), help="Cross-validate on this many folds besides, groups whole.")
@click.option("--tensorboard", "logs", type=FILE, metavar="DIR", help="Write TensorBoard's logs of training there.")
@click.option(
    "--beside", type=FILE, metavar="SWEEP.json", help="Show a sweep's cases beside this build, in the report."
)
@click.option(
    "--clock",
    metavar="COMMAND",
    help="Asks a device what int8 files cost, where channels are removed: 'ssh pi@ADDRESS edge time - --json'. "
    "Default: this machine.",
)
@click.option("--replace", is_flag=True, help="Replace a build of another name, or from other data, in --out.")
@click.option("--weights", type=str, help="Overrides network.weights: imagenet, package, none or a file.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Overrides a key, such as train.epochs=4.")
def convert(
    recipe: Path,
    data: Path,
    out: Path,
    start: str | None,
    group_pattern: str | None,
    drop_leaks: bool,
    seeds: int,
    folds: int | None,
    logs: Path | None,
    beside: Path | None,
    clock: str | None,
    replace: bool,
    weights: str | None,
    changes: tuple[str, ...],
) -> None:
    """Build a bundle from labelled pictures as RECIPE says.

    Stages: data, teacher, finetune, prune, quantize, verify, reference, pack, report. Each one's artefacts stay in the
    build's folder, and a stage whose inputs have not changed is not run again. Exit status 1 where the int8 model
    misses a gate.
    """
    from edge_convert.recipe import read_recipe

    if folds is not None and seeds > 1:
        raise click.UsageError("--seeds and --folds are asked for one at a time")
    if weights is not None:
        changes = (*changes, f"network.weights={weights}")
    parsed = read_recipe(recipe, changes=changes)
    from edge_convert import pipeline
    from edge_convert.repeat import render
    from edge_convert.verify import gate_table

    events = pipeline.convert(
        parsed,
        data,
        out,
        start=start,
        leaks="drop" if drop_leaks else "refuse",
        group_pattern=group_pattern,
        logs=logs,
        seeds=seeds,
        folds=folds or 0,
        beside=beside,
        clock=clock,
        replace=replace,
    )
    build = _draw(events)
    click.echo(gate_table(build.verification.gates))
    if build.repeats is not None:
        click.echo(render(build.repeats))
    click.echo(f"bundle {build.bundle}")
    click.echo(f"report {build.report}")


def _draw(events: Generator[StageEvent, None, Build]) -> Build:
    """Draw a bar a stage on a terminal, and a line a note everywhere."""
    from edge_convert.progress import finish

    stage = ("", "")
    with progress_bar() as bar:

        def show(event: StageEvent) -> None:
            nonlocal stage
            name = f"{event.run}: {event.stage}" if event.run else event.stage
            if (event.run, event.stage) != stage:
                bar.close()
                stage = event.run, event.stage
                click.echo(f"{name}: unchanged, reused" if event.reused else f"{name} ...", err=True)
            if event.progress is not None:
                bar.show(f"{name:<9}", event.progress.done, event.progress.total)
                if event.progress.note:
                    bar.close()
                    click.echo(f"{name}: {event.progress.note}", err=True)

        try:
            return finish(events, show)
        except KeyboardInterrupt:
            bar.close()
            click.echo("the same command, without --from, goes on from here", err=True)
            raise
