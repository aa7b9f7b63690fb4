"""Trials of a delegate that crashes, hangs, refuses or lies, at its start or later: does a wrong number get through?

    python bench/delegate_trials.py --bundle NAME.edge --pictures FOLDER [--trials 1000] [--minutes 30]

Each trial draws how the delegate misbehaves and after how many right runs, opens a screener with it, screens pictures
and holds every number against the CPU's. Prints a table in Markdown; exits 1 where a wrong number got through, or a
trial ended without its reason. Needs a C compiler.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import table_delegate

from edge.bundle import Bundle, read_bundle
from edge.errors import EdgeError
from edge_runtime.delegates.choose import TrialRules
from edge_runtime.pipeline import Screener

AT_START = ("refuse", "crash-start", "hang-start")
IN_A_RUN = ("corrupt", "repeat", "crash", "hang", "fail")
# Golden pictures and timing take about 42 runs: half of these come later, in use.
MOST_RIGHT_RUNS = 84
MOST_PICTURES = 40
# More than the delegate ever needs to start here; what a trial of a hanging one costs.
LIMIT_S = 6.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One trial. mode: how it misbehaves. stage: when it was found out. wrong: verdicts with a number not the CPU's."""

    mode: str
    stage: str
    given: int
    wrong: int
    reason: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=30.0, help="no trial starts later")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--at-once", type=int, default=3)
    words = parser.parse_args()
    bundle = read_bundle(words.bundle)
    pictures = sorted(words.pictures.glob("*.jpg"))[:MOST_PICTURES]
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = name
        delegate = table_delegate.make(Path(name), bundle, [path.read_bytes() for path in pictures])
        screener = Screener(bundle)
        right = {path: screener.screen_file(path).outputs.tolist() for path in pictures}
        start = time.monotonic()
        with ThreadPoolExecutor(words.at_once) as pool:
            seeds = range(words.seed * 10**6, words.seed * 10**6 + words.trials)
            end = start + 60 * words.minutes
            done = pool.map(
                lambda seed: trial(seed, bundle, delegate, right) if time.monotonic() < end else None, seeds
            )
            outcomes = [outcome for outcome in done if outcome is not None]
    print(table(outcomes, time.monotonic() - start))
    return int(any(outcome.wrong or not outcome.reason for outcome in outcomes))


def trial(seed: int, bundle: Bundle, delegate: table_delegate.TableDelegate, right: dict[Path, list[float]]) -> Outcome:
    """One delegate, one screener, some pictures."""
    draw = random.Random(seed)
    mode = draw.choice(AT_START + IN_A_RUN)
    after = draw.choice((0, draw.randrange(MOST_RIGHT_RUNS)))
    paths = draw.sample(sorted(right), draw.randrange(1, MOST_PICTURES + 1))
    rules = TrialRules(limit_s=LIMIT_S if "hang" in mode else 60, min_gain=-1e3, again=True)
    screener = Screener(bundle, threads=1, delegate=delegate.request(mode, after), rules=rules)
    stage = "trial" if screener.delegate.used == "cpu" else "use"
    wrong = 0
    for path, screening in screener.screen_files(paths):
        if isinstance(screening, EdgeError):
            raise screening
        wrong += screening.outputs.tolist() != right[path]
    if screener.delegate.used != "cpu":
        # It was right as long as it was asked: nothing to find out.
        stage = "not reached"
    screener.close()
    return Outcome(mode=mode, stage=stage, given=len(paths), wrong=wrong, reason=screener.delegate.why)


def table(outcomes: list[Outcome], seconds: float) -> str:
    """The outcomes by mode, in Markdown."""
    lines = [
        f"{len(outcomes)} trials, {sum(o.given for o in outcomes)} verdicts, {seconds:.0f} s",
        "",
        "| it | trials | refused in its trial | replaced in use | not asked so often | wrong numbers | its reasons |",
        "|---|---|---|---|---|---|---|",
    ]
    for mode in AT_START + IN_A_RUN:
        of = [outcome for outcome in outcomes if outcome.mode == mode]
        stages = Counter(outcome.stage for outcome in of)
        reasons = sorted({outcome.reason.split(": ", 1)[1][:40] for outcome in of if outcome.stage != "not reached"})
        lines.append(
            f"| {mode} | {len(of)} | {stages['trial']} | {stages['use']} | {stages['not reached']} | "
            f"{sum(outcome.wrong for outcome in of)} | {'; '.join(reasons[:3])} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
