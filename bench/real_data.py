"""Build the two recipes on real pictures through the `edge` command, with several seeds, and print what was reached.

Usage: python bench/real_data.py --data FOLDER --weights FILE [--only malaria|chest-xray] [--seeds 3] [--out FOLDER]
                                 [--plain]
FOLDER holds malaria_tiles/ and chest_xray/; FILE is MobileNetV2's ImageNet weights without the top layer. --plain runs
plain_keras.py on the malaria tiles as well, with as many epochs, and gives the ratio of the processor times.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_convert.recipe import read_recipe

ROOT = Path(__file__).parent.parent
EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """least: what a measure's mean over the seeds must reach at least; most: what it may reach at most."""

    measure: str
    least: float | None = None
    most: float | None = None

    def check(self, value: float) -> str:
        """`ok` or `MISS`, with what was wanted."""
        met = value >= self.least if self.least is not None else self.most is not None and value <= self.most
        wanted = f">= {self.least}" if self.least is not None else f"<= {self.most}"
        return f"{'ok' if met else 'MISS'}, wanted {wanted}"


COMMON = (
    Target(measure="AUC, int8 less float32", least=-0.003),
    Target(measure="calibration error, held out", most=0.03),
    Target(measure="target reached, held out", least=0.95),
    Target(measure="its lower 95 % bound", least=0.95),
)
TARGETS: dict[str, tuple[str, tuple[Target, ...]]] = {
    "malaria": (
        "malaria_tiles",
        (
            Target(measure="AUC", least=0.998),
            Target(measure="specificity at 95% sensitivity", least=0.99),
            Target(measure="specificity at 99% sensitivity", least=0.97),
            *COMMON,
        ),
    ),
    "chest-xray": ("chest_xray", (Target(measure="AUC", least=0.96), *COMMON)),
}


def run(words: list[str]) -> tuple[float, float, str]:
    """Run a program to its end; CPU seconds, wall seconds and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    printed = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.time() - start, printed


def convert(recipe: str, options: argparse.Namespace, *more: str) -> tuple[float, float, str]:
    """`edge convert` of a shipped recipe into its folder below --out."""
    words = [str(ROOT / f"convert/recipes/{recipe}.toml"), "--data", str(options.data / TARGETS[recipe][0])]
    words += ["--out", str(options.out / recipe), "--weights", str(options.weights), "--drop-leaks", *more]
    return run([*EDGE, "convert", *words])


def build(recipe: str, options: argparse.Namespace) -> float:
    """Build with every seed and print the measures beside their targets. Returns the first build's CPU seconds."""
    # Afresh: a build that finds its stages done costs nothing.
    cpu_s, wall_s, _ = convert(recipe, options, "--from", "data")
    print(f"\n{recipe}: one build, {cpu_s:.0f} CPU s, {wall_s:.0f} s", flush=True)
    _, _, printed = convert(recipe, options, "--seeds", str(options.seeds))
    print(printed)
    spread: dict[str, Any] = json.loads((options.out / recipe / "seeds.json").read_text())["spread"]
    for target in TARGETS[recipe][1]:
        mean = spread[target.measure]["mean"]
        print(f"  {target.measure:<34} {mean:.4f}  {target.check(mean)}")
    return cpu_s


def compare_with_plain(options: argparse.Namespace, cpu_s: float) -> None:
    """Run the plain script with the recipe's epochs and print the ratio of the processor times."""
    recipe = read_recipe(ROOT / "convert/recipes/malaria.toml")
    epochs = recipe.train.epochs + recipe.prune.epochs
    words = [str(Path(__file__).with_name("plain_keras.py")), "--data", str(options.data / "malaria_tiles")]
    words += ["--weights", str(options.weights), "--epochs", str(epochs)]
    plain_s, _, printed = run([sys.executable, *words])
    print(f"\nplain Keras, {epochs} epochs: {printed.strip()}")
    print(f"  build to plain script, processor time: {cpu_s / plain_s:.2f} ({cpu_s:.0f} to {plain_s:.0f} s)")


def main() -> None:
    """Parse, build, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench")
    options = parser.parse_args()
    for recipe in [options.only] if options.only else list(TARGETS):
        cpu_s = build(recipe, options)
        if options.plain and recipe == "malaria":
            compare_with_plain(options, cpu_s)


if __name__ == "__main__":
    main()
