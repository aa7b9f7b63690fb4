"""Kill a build with SIGKILL at random moments of its training until it is through; compare with one left alone.

Usage: python bench/kill.py --recipe FILE --data FOLDER [--weights FILE] [--kills 10] [--out FOLDER] [--set KEY=VALUE]
Prints each kill, and whether the two weight files are the same bytes. Exit status 1 where they are not.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

EDGE = [sys.executable, "-c", "from edge.cli import main; main()"]
SILENT = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
TRAINED = ("finetune", "prune")


def weights_digest(run: Path) -> dict[str, str]:
    """The digest of each trained stage's weights file."""
    return {stage: hashlib.sha256((run / stage / "weights.npz").read_bytes()).hexdigest() for stage in TRAINED}


def has_trained(out: Path, since: float) -> bool:
    """Whether a checkpoint was written since then: training is under way."""
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_mtime > since for path in out.glob(".*.partial/training.npz"))
    return False


def build(words: list[str], out: Path, kill_after: float | None = None, *, in_training: bool = True) -> bool:
    """Run the build, and kill it after so many seconds; in_training: counted from its first checkpoint on.

    Returns whether it came to its end.
    """
    start = time.time()
    process = subprocess.Popen([*EDGE, "convert", *words, "--out", str(out)], **SILENT)
    if kill_after is None:
        return process.wait() == 0
    while process.poll() is None and in_training and not has_trained(out, start):
        time.sleep(0.02)
    try:
        return process.wait(kill_after) == 0
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def main() -> int:
    """One build alone, one that is killed again and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/bench/kill"))
    options = parser.parse_args()
    words = [options.recipe, "--data", options.data, "--drop-leaks"]
    words += ["--weights", options.weights] if options.weights else []
    words += [word for change in options.set for word in ("--set", change)]
    shutil.rmtree(options.out, ignore_errors=True)
    start = time.monotonic()
    if not build(words, options.out / "alone"):
        print("the build left alone failed: run it by hand for its reason")
        return 1
    whole = time.monotonic() - start
    draw = random.Random(options.seed)
    kills = 0
    while kills < options.kills:
        # Mostly while it trains; one in five at any moment, also while it starts, reads and writes.
        in_training = draw.random() < 0.8
        after = draw.uniform(0, whole / options.kills if in_training else whole / 2)
        if build(words, options.out / "killed", after, in_training=in_training):
            break
        kills += 1
        standing = [p.parent.name for p in options.out.glob("killed/.*.partial/training.npz")]
        when = "training" if in_training else "running"
        print(f"kill {kills} after {after:.1f} s of {when}; a checkpoint is in {standing or 'no stage'}", flush=True)
    if not build(words, options.out / "killed"):
        print("the killed build does not end")
        return 1
    same = weights_digest(options.out / "alone") == weights_digest(options.out / "killed")
    print(f"{kills} kills; the weights files are {'the same bytes' if same else 'DIFFERENT'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
