"""Build every backbone on one data set through the `edge` command and print a table of what each reached.

Usage: python bench/backbones.py --data FOLDER [--weights-for NAME=FILE ...] [--only NAME ...] [--side PX] [--epochs N]
                                 [--out FOLDER] [--classes LABEL,LABEL] [--positive LABEL] [--set KEY=VALUE ...]
FOLDER holds the data set. A backbone without a file of weights takes those of its package where there is one, and else
trains from scratch, which the table says: such rows do not compare with the others. No gate stops a build. Started
again with the same --out it goes on: a build's finished stages are kept, and so are its CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.dataset import read_dataset
from edge_convert.backbones import BACKBONES, find_backbone

ROOT = Path(__file__).parent.parent
EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]
# The side that the published network was trained on.
SIDES_PX = {"inceptionv3": 299}
SIDE_PX = 224
# All measures here are of ranks and need no calibrated probabilities, which a network that learned nothing cannot have.
UNSTOPPED = {
    "decision.calibration": "none",
    "gates.min_auc": 0.0,
    "gates.min_specificity_at_target": 0.0,
    "gates.max_auc_drop": 1.0,
    "gates.max_accuracy_drop": 1.0,
    "gates.max_flips": 1.0,
    "gates.min_saliency_agreement": -1.0,
    "gates.max_randomised_agreement": 1.0,
}
HEAD = (
    "| backbone | side | weights | epochs | float32 AUC | int8 AUC | difference | specificity at 95 % sensitivity "
    "| int8, MB | int8, ms | build, CPU s |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One build. weights: as `network.weights` takes them."""

    backbone: str
    side_px: int
    weights: str
    epochs: int

    def recipe(self, classes: Sequence[str], positive: str) -> str:
        """The recipe as TOML. From scratch the learning rate is higher, and nothing is unfrozen: all of it learns."""
        rate = 1e-3 if self.weights == "none" else 2e-4
        blocks = min(4, len(find_backbone(self.backbone).block_starts))
        lines = [
            f"name = {json.dumps(self.backbone)}",
            f"classes = {json.dumps(list(classes))}",
            f"positive = {json.dumps([positive])}",
            "[network]",
            f"backbone = {json.dumps(self.backbone)}",
            f"side_px = {self.side_px}",
            f"weights = {json.dumps(self.weights)}",
            "[train]",
            f"epochs = {self.epochs}",
            f"learning_rate = {rate}",
            f"unfrozen_blocks = {blocks}",
        ]
        return "\n".join(lines) + "\n"

    def source(self) -> str:
        """Where the weights came from, in words."""
        named = {"none": "**none, from scratch**", "package": "ImageNet, its package", "imagenet": "ImageNet, Keras"}
        return named.get(self.weights, "ImageNet, a file")


def build(recipe: str, data: Path, out: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Run `edge convert`; return the verification it wrote, with the CPU seconds of all its runs together."""
    out.mkdir(parents=True, exist_ok=True)
    path, spent = out.with_suffix(".toml"), out.with_suffix(".json")
    path.write_text(recipe, encoding="utf-8")
    settings = [f"{key}={value}" for key, value in UNSTOPPED.items()] + list(changes)
    words = [path, "--data", data, "--out", out, "--drop-leaks", *(word for s in settings for word in ("--set", s))]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        subprocess.run([*EDGE, "convert", *map(str, words)], check=True)
    finally:
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        earlier = float(json.loads(spent.read_text())) if spent.exists() else 0.0
        total = earlier + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        spent.write_text(json.dumps(total))
    result: dict[str, Any] = json.loads((out / "verify/verification.json").read_text())
    return {**result, "cpu_s": total}


def row(run: Run, result: dict[str, Any]) -> str:
    """A line of the table."""
    int8, float32 = result["evaluations"]["val/int8"], result["evaluations"]["val/float32"]
    size = next(size for size in result["sizes"] if size["name"].startswith("int8"))
    cells = [
        f"`{run.backbone}`",
        f"{run.side_px}",
        run.source(),
        f"{run.epochs}",
        f"{float32['auc']['value']:.4f}",
        _interval(int8["auc"]),
        f"{abs(int8['auc']['value'] - float32['auc']['value']):.4f}",
        _interval(int8["specificity_at_target"]),
        f"{size['bytes'] / 1e6:.2f}",
        f"{size['infer_ms']:.1f}",
        f"{result['cpu_s']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _interval(estimate: dict[str, float]) -> str:
    return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"


def runs(options: argparse.Namespace) -> list[Run]:
    """What is to be built, checked before anything is."""
    files = dict(pair.split("=", 1) for pair in options.weights_for)
    for name in (*files, *options.only):
        find_backbone(name)
    found = []
    for name in options.only or BACKBONES:
        backbone = find_backbone(name)
        weights = files.get(name) or ("package" if "package" in backbone.sources else "none")
        side_px = options.side or SIDES_PX.get(name, SIDE_PX)
        backbone.check(side_px, 1.0, weights)
        found.append(Run(backbone=name, side_px=side_px, weights=weights, epochs=options.epochs))
    return found


def main() -> int:
    """Parse, build, print; 1 where a build failed, whose row says so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights-for", metavar="NAME=FILE", action="append", default=[])
    parser.add_argument("--only", metavar="NAME", action="append", default=[])
    parser.add_argument("--side", type=int, help="pixels; the default is each network's own")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench/backbones")
    parser.add_argument("--classes", help="in the order of the outputs; the default is the data set's, by name")
    parser.add_argument("--positive", default="parasite")
    parser.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], dest="changes")
    options = parser.parse_args()
    classes = options.classes.split(",") if options.classes else read_dataset(options.data).classes
    rows, failed = [HEAD], 0
    for run in runs(options):
        try:
            recipe = run.recipe(classes, options.positive)
            out = options.out / f"{run.backbone}-{run.side_px}"
            rows.append(row(run, build(recipe, options.data, out, options.changes)))
        except subprocess.CalledProcessError as error:
            failed += 1
            rows.append(
                f"| `{run.backbone}` | {run.side_px} | {run.source()} | failed, exit {error.returncode} |{' |' * 7}"
            )
        (options.out / "table.md").write_text("\n".join(rows) + "\n", encoding="utf-8")
        print(rows[-1], flush=True)
    print("\n".join(["", *rows]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
