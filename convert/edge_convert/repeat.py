"""The same recipe several times: with other seeds on the same splits, or on the folds of a cross-validation.

One build says what one network reached; these say how much of that was chance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.fields import plain
from edge.files import write_atomically
from edge_convert.builder import Builder, Events, Fold, StageEvent
from edge_convert.keras import keras
from edge_convert.progress import translate
from edge_convert.recipe import Recipe
from edge_convert.run_folder import RunFolder
from edge_convert.verify import Verification
from edge_runtime.evaluate import output_scores, positive_scores
from edge_runtime.metrics import Interval, fit_threshold, ranking_intervals

Run = Callable[[Builder], Events]
TARGETS = (0.95, 0.99)
FILES = ("seeds.json", "folds.json")
"""What is written beside the bundle, by the kind of the runs."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One of the runs: what its int8 file reached. passed: whether it met every gate."""

    run: str
    n: int
    n_positive: int
    passed: bool
    measures: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean, standard deviation (n - 1) and extremes over the runs."""

    mean: float
    deviation: float
    lowest: float
    highest: float


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """What several runs of one recipe reached. kind: `seeds` or `folds`. of: the key of the build that they belong to.

    split: what was measured on: `test`, or `val`, which also chose each run's epoch, calibration and threshold.
    pooled_auc: of folds, over the network's own outputs for every picture, each by a network that it had no say in;
    None for seeds.
    """

    kind: str
    of: str
    split: str
    outcomes: tuple[Outcome, ...]
    spread: dict[str, Spread]
    pooled_auc: Interval | None


def repeat_seeds(built: Builder, seeds: int, run: Run) -> Generator[StageEvent, None, Repeats]:
    """Train with the seeds that follow the recipe's. built: the finished build of the recipe's own."""
    recipe = built.recipe
    split = "test" if "test/int8" in built.verification.evaluations else "val"
    done = [(f"seed {recipe.seed}", built.verification)]
    for seed in range(recipe.seed + 1, recipe.seed + seeds):
        name = f"seed {seed}"
        verification = yield from _run_one(
            built, name, Path("seeds") / str(seed), run, replace(recipe, seed=seed), None
        )
        done.append((name, verification))
    return _save(built, summary("seeds", done, of=built.key, split=split))


def cross_validate(built: Builder, folds: int, run: Run) -> Generator[StageEvent, None, Repeats]:
    """Train on all folds but one, for each of them; groups stay whole, and the test split stays out."""
    done = []
    for number in range(1, folds + 1):
        name, place = f"fold {number} of {folds}", Path(f"folds-{folds}") / str(number)
        fold = Fold(number=number, of=folds)
        done.append((name, (yield from _run_one(built, name, place, run, built.recipe, fold))))
    return _save(built, summary("folds", done, of=built.key, split="test"))


def _run_one(
    built: Builder, name: str, place: Path, run: Run, recipe: Recipe, fold: Fold | None
) -> Generator[StageEvent, None, Verification]:
    """One more run on the finished build's pictures, in a folder of its own below it."""
    with RunFolder.opened(built.folder.path / place) as folder:
        builder = Builder(
            recipe,
            folder,
            built.source,
            start=None if built.start in (None, "data") else built.start,
            logs=None if built.logs is None else built.logs / place,
            data_folder=built.data_folder,
            fold=fold,
            clock=built.clock,
        )
        yield from translate(run(builder), lambda event: replace(event, run=name))
        verification = builder.verification
    keras().backend.clear_session()
    return verification


def summary(kind: str, runs: Sequence[tuple[str, Verification]], *, of: str, split: str) -> Repeats:
    """The runs' measures and their spread. kind: `seeds`, or `folds`, whose pictures are then pooled as well."""
    outcomes = tuple(_outcome(name, verification, split) for name, verification in runs)
    # Calibration cannot be held out where a run's groups are too few: what not every run has has no spread.
    common = [name for name in outcomes[0].measures if all(name in outcome.measures for outcome in outcomes)]
    columns = {name: np.array([outcome.measures[name] for outcome in outcomes]) for name in common}
    spread = {
        name: Spread(
            mean=float(values.mean()),
            deviation=float(values.std(ddof=1)),
            lowest=float(values.min()),
            highest=float(values.max()),
        )
        for name, values in columns.items()
    }
    pooled = None
    if kind == "folds":
        # Each fold's own calibration would lend the pool what it knows of its fold's prevalence.
        parts = [_outputs(verification, split) for _, verification in runs]
        scores, truth = (np.concatenate(side) for side in zip(*parts, strict=True))
        groups = [p.group for _, verification in runs for p in verification.predictions[f"{split}/int8"]]
        pooled, _ = ranking_intervals(scores, truth, groups)
    return Repeats(kind=kind, of=of, split=split, outcomes=outcomes, spread=spread, pooled_auc=pooled)


def _outputs(verification: Verification, split: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The int8 network's own score of each picture, before calibration, and whether it has the finding."""
    evaluation, found = verification.evaluations[f"{split}/int8"], verification.predictions[f"{split}/int8"]
    _, truth = positive_scores(found, evaluation.positive)
    return output_scores(found, evaluation.labels, evaluation.positive), truth


def _outcome(name: str, verification: Verification, split: str) -> Outcome:
    int8, float32 = (verification.evaluations[f"{split}/{variant}"] for variant in ("int8", "float32"))
    scores, truth = _outputs(verification, split)
    at_targets = {
        f"specificity at {target:.0%} sensitivity": float(
            (scores[~truth] < fit_threshold(scores, truth, target)).mean()
        )
        for target in TARGETS
    }
    held_out = verification.held_out
    apart = (
        {
            "calibration error, outputs": held_out.output_error,
            "calibration error, held out": held_out.calibration_error,
            **({} if held_out.chance_error is None else {"calibration error, by chance": held_out.chance_error}),
            "target reached, held out": held_out.reached,
        }
        if held_out is not None
        else {}
    )
    return Outcome(
        run=name,
        n=int8.n,
        n_positive=int8.n_positive,
        passed=verification.passed,
        measures={
            "AUC": int8.auc.value,
            "average precision": int8.average_precision.value,
            **at_targets,
            "sensitivity at the threshold": int8.sensitivity.value,
            "its lower 95 % bound": int8.judged.sensitivity_bound,
            "specificity at the threshold": int8.specificity.value,
            **apart,
            "AUC, int8 less float32": int8.auc.value - float32.auc.value,
        },
    )


def render(repeats: Repeats) -> str:
    """The runs as a table for people: a line a measure, a column a run, then mean, deviation and extremes."""
    names = [outcome.run for outcome in repeats.outcomes]
    width = max(10, *(len(name) for name in names)) + 2
    columns = [*names, "mean", "sd", "lowest", "highest"]
    lines = [" " * 34 + "".join(f"{column:>{width}}" for column in columns)]
    for measure, spread in repeats.spread.items():
        values = [outcome.measures[measure] for outcome in repeats.outcomes]
        values += [spread.mean, spread.deviation, spread.lowest, spread.highest]
        lines.append(f"  {measure:<32}" + "".join(f"{value:>{width}.4f}" for value in values))
    pictures = " + ".join(f"{o.n} ({o.n_positive} positive)" for o in repeats.outcomes)
    where = pictures if repeats.kind == "folds" else f"{pictures.split(' + ')[0]} of the split {repeats.split!r}"
    lines.append(f"  int8, through the runtime, on {where}")
    if repeats.split == "val":
        lines.append(
            "  the same pictures chose each run's epoch, calibration and threshold, which flatters; use --folds"
        )
    missed = [outcome.run for outcome in repeats.outcomes if not outcome.passed]
    if missed:
        lines.append(f"  a gate was missed by {', '.join(missed)}")
    if repeats.pooled_auc is not None:
        lines.append(f"  AUC over all folds' pictures together: {repeats.pooled_auc}")
    return "\n".join(lines)


def _save(built: Builder, repeats: Repeats) -> Repeats:
    data = json.dumps(plain(repeats), indent=1).encode()
    write_atomically(built.folder.path / f"{repeats.kind}.json", data)
    return repeats


def forget_repeats(built: Builder) -> None:
    """Remove the files of runs that belong to another build than this one."""
    for path in (built.folder.path / file for file in FILES):
        with suppress(OSError, ValueError, KeyError, TypeError):
            if json.loads(path.read_text(encoding="utf-8"))["of"] == built.key:
                continue
        path.unlink(missing_ok=True)
