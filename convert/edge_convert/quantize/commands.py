"""`edge quantize`: parse, call the steps, print. Nothing heavy is imported before it runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli import FILE
from edge.errors import EdgeError
from edge.files import write_atomically
from edge.progress_bar import progress_bar

if TYPE_CHECKING:
    from edge_convert.progress import Progress
    from edge_convert.recipe import Recipe


@click.command()
@click.argument("run", type=FILE)
@click.option("--debug", is_flag=True, help="Error by layer, worst first: a table, a CSV and a figure.")
@click.option("--repair", is_flag=True, help="Search for an int8 file that meets the recipe's gates.")
@click.option("--out", type=FILE, required=True, help="Folder for what is found.")
@click.option("--pictures", type=click.IntRange(min=1), default=32, show_default=True, help="Pictures for --debug.")
@click.option("--recipe", "recipe_file", type=FILE, help="Default: the recipe that RUN was built with.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Overrides a key, with --recipe.")
def quantize(
    run: Path, debug: bool, repair: bool, out: Path, pictures: int, recipe_file: Path | None, changes: tuple[str, ...]
) -> None:
    """Find where the int8 file of a build loses, and mend it.

    RUN is a build's folder; nothing in it is changed. The repair's file is written to --out as repaired.int8.tflite,
    with the table of all that was tried; a build does the same by itself unless the recipe sets quantize.repair =
    false. Exit status 1 where no file meets the gates.
    """
    from edge_convert.run_folder import make_folder

    if not debug and not repair:
        raise click.UsageError("say --debug, --repair or both")
    if changes and recipe_file is None:
        raise click.UsageError("--set needs --recipe")
    recipe = _recipe(run, recipe_file, changes)
    if out.resolve().is_relative_to(run.resolve()):
        raise EdgeError(f"{out} lies inside the build {run}, which stays as it is", remedy="name another --out")
    make_folder(out)
    if debug:
        _debug(run, recipe, out, pictures)
    if repair:
        _repair(run, recipe, out, its_own=recipe_file is None)


def _recipe(run: Path, recipe_file: Path | None, changes: tuple[str, ...]) -> Recipe:
    from edge.fields import FieldError, build
    from edge_convert.recipe import Recipe, read_recipe
    from edge_convert.run_folder import RunFolder

    built = RunFolder(run)
    if built.key("quantize") is None:
        raise EdgeError(f"{run} holds no quantized build", remedy="name the --out folder of `edge convert`")
    for stage in ("data", "quantize"):
        built.require_whole(stage)
    if recipe_file is not None:
        return read_recipe(recipe_file, changes=changes)
    kept = built.stage("quantize") / "recipe.json"
    if not kept.exists():
        raise EdgeError(f"{run} does not say by which recipe it was built", remedy="name it with --recipe")
    try:
        return build(Recipe, json.loads(kept.read_text(encoding="utf-8")))
    except FieldError as error:
        raise EdgeError(
            f"{run} was built by another version, whose recipe has {error}",
            remedy="name the recipe with --recipe, or build again",
        ) from None


def _debug(run: Path, recipe: Recipe, out: Path, count: int) -> None:
    import numpy as np

    from edge_convert.backbones import find_backbone
    from edge_convert.export import read_models
    from edge_convert.prepare import load_prepared
    from edge_convert.progress import finish
    from edge_convert.quantize.debug import layer_errors, plot, render, to_csv

    prepared, models = load_prepared(run / "data"), read_models(run / "quantize")
    train = prepared.rows("train")
    rows = train[np.unique(np.linspace(0, len(train) - 1, count).astype(np.int64))]
    steps = layer_errors(
        models["float32"], models["int8"], prepared.pictures[rows], find_backbone(recipe.network.backbone)
    )
    with progress_bar() as bar:
        layers = finish(steps, lambda step: bar.show("layers", step.done, step.total))
    click.echo(render(layers, len(rows)))
    write_atomically(out / "layers.csv", to_csv(layers).encode())
    plot(layers, len(rows)).savefig(out / "layers.svg")
    click.echo(f"all layers {out / 'layers.csv'}, {out / 'layers.svg'}", err=True)


def _repair(run: Path, recipe: Recipe, out: Path, *, its_own: bool) -> None:
    """its_own: whether it is the recipe that the build was made by, and so its calibration pictures."""
    from edge_convert.builder import CALIBRATION, QUANTIZATION
    from edge_convert.export import read_models
    from edge_convert.prepare import load_prepared
    from edge_convert.progress import finish
    from edge_convert.quantize.ranges import kind_of
    from edge_convert.quantize.record import load_quantization, save_quantization
    from edge_convert.quantize.repair import First
    from edge_convert.quantize.steps import mended, other_ways

    prepared, models = load_prepared(run / "data"), read_models(run / "quantize")
    pictures = len(json.loads((run / "quantize" / CALIBRATION).read_text(encoding="utf-8")))
    built = load_quantization(run / "quantize" / QUANTIZATION)
    if built.kept == 0:
        first = First(model=models["int8"], kind=kind_of(built.ranges) if its_own else None)
    else:
        its = built.tried[built.kept]
        first = First(
            model=models["int8"], float_layers=its.float_layers, called=f"as the build kept it ({its.remedy})"
        )
    asked = replace(recipe, quantize=replace(recipe.quantize, repair=True))
    with progress_bar() as bar:

        def show(step: Progress) -> None:
            bar.show("repair", step.done, step.total)
            if step.note:
                bar.close()
                click.echo(step.note, err=True)

        steps = mended(asked, prepared, models["float32"], first, pictures, ranges=built.ranges)
        data, record = finish(steps, show)
    write_atomically(out / "repaired.int8.tflite", data)
    save_quantization(out / "repair.json", record)
    click.echo("\n".join(record.table()))
    for operation in record.float_operations:
        click.echo(f"stayed float32: {operation}")
    kept = record.tried[record.kept]
    click.echo(f"kept: {kept.remedy}, {out / 'repaired.int8.tflite'}")
    if kept.misses and len(record.tried) == 1:
        raise EdgeError(
            f"no other int8 file was made: float32 itself misses gates.min_auc = {recipe.gates.min_auc:g}",
            remedy="train longer or with more pictures, or lower that gate with --recipe and --set",
        )
    if kept.misses:
        raise EdgeError(
            f"no int8 file meets the gates; the nearest misses {', '.join(kept.misses)}", remedy=other_ways(recipe)
        )
