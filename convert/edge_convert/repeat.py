"""The same recipe several times: with other seeds on the same splits, or on the folds of a cross-validation.

One build says what one network reached; these say how much of that was chance.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.fields import plain
from edge.files import write_atomically
from edge_convert.builder import Builder, Events, Fold, StageEvent
from edge_convert.keras import keras
from edge_convert.progress import translate
from edge_convert.recipe import Recipe
from edge_convert.run_folder import RunFolder
from edge_convert.verify import Verification
from edge_runtime.evaluate import positive_scores
from edge_runtime.metrics import Interval, fit_threshold, ranking_intervals

Run = Callable[[Builder], Events]
TARGETS = (0.95, 0.99)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One of the runs: what its int8 file reached on its validation pictures."""

    run: str
    n: int
    n_positive: int
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
    """What several runs of one recipe reached. kind: `seeds` or `folds`.

    pooled_auc: of folds, over every picture by the network that had not seen it; None for seeds.
    """

    kind: str
    outcomes: tuple[Outcome, ...]
    spread: dict[str, Spread]
    pooled_auc: Interval | None


def repeat_seeds(built: Builder, seeds: int, run: Run) -> Generator[StageEvent, None, Repeats]:
    """Train with the seeds that follow the recipe's. built: the finished build of the recipe's own."""
    recipe = built.recipe
    done = [(f"seed {recipe.seed}", built.verification)]
    for seed in range(recipe.seed + 1, recipe.seed + seeds):
        name = f"seed {seed}"
        verification = yield from _run_one(
            built, name, Path("seeds") / str(seed), run, replace(recipe, seed=seed), None
        )
        done.append((name, verification))
    return _save(built, summary("seeds", done))


def cross_validate(built: Builder, folds: int, run: Run) -> Generator[StageEvent, None, Repeats]:
    """Train on all folds but one, for each of them; groups stay whole, and the test split stays out."""
    done = []
    for number in range(1, folds + 1):
        name, place = f"fold {number} of {folds}", Path(f"folds-{folds}") / str(number)
        fold = Fold(number=number, of=folds)
        done.append((name, (yield from _run_one(built, name, place, run, built.recipe, fold))))
    return _save(built, summary("folds", done))


def _run_one(
    built: Builder, name: str, place: Path, run: Run, recipe: Recipe, fold: Fold | None
) -> Generator[StageEvent, None, Verification]:
    """One more run on the finished build's pictures, in a folder of its own below it."""
    with RunFolder.opened(built.folder.path / place) as folder:
        builder = Builder(recipe, folder, built.source, data_folder=built.data_folder, fold=fold)
        yield from translate(run(builder), lambda event: replace(event, run=name))
        verification = builder.verification
    keras().backend.clear_session()
    return verification


def summary(kind: str, runs: Sequence[tuple[str, Verification]]) -> Repeats:
    """The runs' measures and their spread. kind: `seeds`, or `folds`, whose pictures are then pooled as well."""
    outcomes = tuple(_outcome(name, verification) for name, verification in runs)
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
        found = [p for _, verification in runs for p in verification.predictions["val/int8"]]
        scores, truth = positive_scores(found, runs[0][1].decision.positive)
        pooled, _ = ranking_intervals(scores, truth, [p.group for p in found])
    return Repeats(kind=kind, outcomes=outcomes, spread=spread, pooled_auc=pooled)


def _outcome(name: str, verification: Verification) -> Outcome:
    int8, float32 = (verification.evaluations[f"val/{variant}"] for variant in ("int8", "float32"))
    scores, truth = positive_scores(verification.predictions["val/int8"], verification.decision.positive)
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
            "target reached, held out": held_out.reached,
        }
        if held_out is not None
        else {}
    )
    return Outcome(
        run=name,
        n=int8.n,
        n_positive=int8.n_positive,
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
    lines.append(f"  int8, through the runtime, on {pictures if repeats.kind == 'folds' else pictures.split(' + ')[0]}")
    if repeats.pooled_auc is not None:
        lines.append(f"  AUC over all folds' pictures together: {repeats.pooled_auc}")
    return "\n".join(lines)


def _save(built: Builder, repeats: Repeats) -> Repeats:
    data = json.dumps(plain(repeats), indent=1).encode()
    write_atomically(built.folder.path / f"{repeats.kind}.json", data)
    return repeats
