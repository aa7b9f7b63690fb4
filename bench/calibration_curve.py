"""int8 error against the number of calibration pictures, drawn at random and by k-centre greedy.

    python bench/calibration_curve.py RUN --recipe FILE --out FOLDER

RUN is the folder of a finished build. The float32 file is run once over all pictures that any choice needs; each choice
then only sets other ranges. Random choices are drawn with three seeds. The error is of validation pictures.
"""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from edge.cli import FILE
from edge_convert.backbones import find_backbone
from edge_convert.export import choose_calibration
from edge_convert.prepare import load_prepared
from edge_convert.progress import finish
from edge_convert.quantize.coverage import covering_rows
from edge_convert.quantize.embed import embeddings_of
from edge_convert.quantize.judge import Judge
from edge_convert.quantize.ranges import observe, quantize, set_ranges
from edge_convert.recipe import read_recipe

COUNTS = (8, 16, 32, 64, 128, 256, 512)
SEEDS = (1, 2, 3)


@click.command()
@click.argument("run", type=FILE)
@click.option("--recipe", "recipe_file", type=FILE, required=True, help="The recipe of that build.")
@click.option("--set", "changes", multiple=True, help="KEY=VALUE laid over the recipe.")
@click.option("--out", type=FILE, required=True, help="Folder for the CSV and the figure.")
def main(run: Path, recipe_file: Path, changes: tuple[str, ...], out: Path) -> None:
    """Draw the curve."""
    recipe = read_recipe(recipe_file, changes=changes)
    prepared = load_prepared(run / "data")
    float32 = (run / "quantize/model.float32.tflite").read_bytes()
    backbone = find_backbone(recipe.network.backbone)
    train = prepared.rows("train")
    embeddings = finish(embeddings_of(recipe, prepared, float32, train))
    choices: list[tuple[str, int, int, np.ndarray]] = []
    for count in COUNTS:
        if count > len(train):
            continue
        for seed in SEEDS:
            drawn = replace(recipe, seed=seed, quantize=replace(recipe.quantize, calibration_pictures=count))
            choices.append(("random", count, seed, choose_calibration(drawn, prepared)))
        choices.append(("k-centre", count, 0, covering_rows(recipe, prepared, embeddings, count)))
    union = np.unique(np.concatenate([rows for *_, rows in choices]))
    seen = finish(observe(float32, prepared.pictures[union], backbone, histograms=False))
    judge = Judge(recipe, prepared, float32)
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for how, count, seed, chosen in choices:
        ranges = set_ranges(seen, backbone, rows=np.searchsorted(union, chosen))
        cost = judge.measure(quantize(float32, ranges))
        rows.append((how, count, seed, cost.error, cost.auc_drop, cost.accuracy_drop, cost.flips, cost.saliency))
        click.echo(" ".join(f"{v:.5f}" if isinstance(v, float) else str(v) for v in rows[-1]))
    with (out / "calibration_curve.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["choice", "pictures", "seed", "rms_error", "auc_drop", "accuracy_drop", "flips", "maps"])
        writer.writerows(rows)
    _plot(rows, cost.n, out / "calibration_curve.png")


def _plot(rows: list[tuple], n: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.add_subplot()
    for how, marker in (("random", "o"), ("k-centre", "s")):
        counts = sorted({row[1] for row in rows if row[0] == how})
        found = [[row[3] for row in rows if row[0] == how and row[1] == count] for count in counts]
        axes.plot(counts, [np.median(values) for values in found], marker=marker, label=how)
        axes.fill_between(counts, [min(v) for v in found], [max(v) for v in found], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("calibration pictures")
    axes.set_ylabel("rms difference of the probability, int8 to float32")
    axes.set_title(f"n = {n} validation pictures; random: three seeds, median and range", fontsize=8)
    axes.legend()
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
