"""Build the two recipes on real pictures through the `edge` command and print what was reached.

Usage: python bench/real_data.py --data FOLDER --weights FILE [--only malaria|chest-xray] [--out FOLDER]
FOLDER holds malaria_tiles/ and chest_xray/; FILE is MobileNetV2's ImageNet weights without the top layer.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]
# recipe: (data set, least AUC, least specificity at 95 % sensitivity or None)
TARGETS: dict[str, tuple[str, float, float | None]] = {
    "malaria": ("malaria_tiles", 0.995, 0.98),
    "chest-xray": ("chest_xray", 0.95, None),
}
MAX_AUC_DIFFERENCE = 0.003


def build(recipe: str, data: Path, weights: Path, out: Path) -> dict[str, Any]:
    """Run `edge convert`; return the verification it wrote, with the build's CPU and wall seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.time()
    words = [
        ROOT / f"convert/recipes/{recipe}.toml",
        "--data",
        data,
        "--out",
        out,
        "--weights",
        weights,
        "--drop-leaks",
    ]
    subprocess.run([*EDGE, "convert", *map(str, words)], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    result: dict[str, Any] = json.loads((out / "verify/verification.json").read_text())
    result["cpu_s"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    result["wall_s"] = time.time() - start
    return result


def show(recipe: str, result: dict[str, Any]) -> bool:
    """Print the measures and whether the targets are met."""
    _, least_auc, least_specificity = TARGETS[recipe]
    int8, float32 = result["evaluations"]["val/int8"], result["evaluations"]["val/float32"]
    difference = int8["auc"]["value"] - float32["auc"]["value"]
    checks = [
        ("validation AUC, int8", int8["auc"], least_auc, int8["auc"]["value"] >= least_auc),
        ("int8 minus float32 AUC", difference, MAX_AUC_DIFFERENCE, abs(difference) <= MAX_AUC_DIFFERENCE),
        (
            "specificity at 95 % sensitivity",
            int8["specificity_at_target"],
            least_specificity,
            least_specificity is None or int8["specificity_at_target"]["value"] >= least_specificity,
        ),
        ("pointing game, all positives with boxes", int8["pointing_game"], None, True),
        ("pointing game, referred ones", int8["pointing_game_detected"], None, True),
    ]
    print(f"\n{recipe}: {int8['n']} validation pictures, {int8['n_positive']} positive")
    for name, value, target, met in checks:
        text = f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]" if isinstance(value, dict) else value
        print(f"  {'ok  ' if met else 'MISS'} {name:<42} {text}" + (f"  (target {target})" if target else ""))
    print(f"  build: {result['cpu_s']:.0f} CPU s, {result['wall_s']:.0f} s")
    return all(met for *_, met in checks)


def main() -> int:
    """Parse, build, print; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--only", choices=TARGETS)
    parser.add_argument("--out", type=Path, default=ROOT / "build/bench")
    options = parser.parse_args()
    recipes = [options.only] if options.only else list(TARGETS)
    results = {r: build(r, options.data / TARGETS[r][0], options.weights, options.out / r) for r in recipes}
    missed = [recipe for recipe, result in results.items() if not show(recipe, result)]
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
