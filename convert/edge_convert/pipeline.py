"""From labelled pictures to a bundle: the stages of a build in order. Read this file first.

Each stage leaves its artefacts in a folder of its name below the build's folder. A stage whose inputs have not changed
is not run again. TensorFlow is imported by the stages that need it, so a build that reuses them stays quick.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from edge.dataset import Dataset, read_dataset
from edge.errors import DataError, EdgeError, GateError, RecipeError
from edge.split import assign_folds
from edge_convert import export, network
from edge_convert.builder import PLACES, STAGES, Builder, Events, Leaks, Source, StageEvent
from edge_convert.data.check import missing_splits
from edge_convert.progress import finish
from edge_convert.prune.clock import Clock, ProgramClock
from edge_convert.quantize.steps import other_ways
from edge_convert.recipe import Recipe
from edge_convert.repeat import FILES as REPEATS
from edge_convert.repeat import Repeats, cross_validate, forget_repeats, repeat_seeds
from edge_convert.report.tradeoff import read_beside
from edge_convert.run_folder import RunFolder
from edge_convert.saliency.cut import require_finer_layer
from edge_convert.saliency.gradient import check_gradient
from edge_convert.train.devices import devices
from edge_convert.train.finetune import teachers_recipe
from edge_convert.train.logs import require_writable
from edge_convert.verify import LOST_BY_INT8, Verification, gate_table
from edge_runtime.judgement import require_groups

FEWEST_FOLDS = 3
"""One is measured on, one chooses, one trains."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """Where a build's results are. repeats: of further seeds or of folds, None where none were asked for."""

    bundle: Path | None
    report: Path
    verification: Verification
    repeats: Repeats | None = None


def convert(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    start: str | None = None,
    leaks: Leaks = "refuse",
    group_pattern: str | None = None,
    logs: Path | None = None,
    seeds: int = 1,
    folds: int = 0,
    beside: Path | None = None,
    clock: str | None = None,
    replace: bool = False,
) -> Generator[StageEvent, None, Build]:
    """Labelled pictures to a bundle and a report.

    data: the data set's folder; group_pattern: see `read_dataset`. out: the build's folder, made where needed. start:
    this stage and those after it are run even where their artefacts hold. leaks: what to do with a group or picture
    that is in several splits: refuse the data set, or drop it from all but the last of them. logs: TensorBoard's
    folder. seeds: how many seeds to train with, on the same splits; the bundle is the recipe's own seed's. folds: of a
    cross-validation by group besides the bundle, 0 for none. beside: the `sweep.json` of a sweep whose cases the report
    shows beside this build. clock: the program that says what int8 files cost where channels are removed, see
    `ProgramClock`. replace: whether a build of another name, or from other data, may be replaced where `out` holds one.
    Yields what it is doing; returns where the results are.
    Raises DataError for a leaking or unusable data set, GateError (after the report is written) where the int8 model
    misses a gate.
    """
    if start is not None and start not in STAGES:
        raise EdgeError(f"there is no stage {start!r}", remedy=f"use one of {', '.join(STAGES)}")
    require_outside(out, data)
    dataset = read_dataset(data, group_pattern=group_pattern)
    check_early(recipe, dataset, seeds, folds)
    asked = check_clock(recipe, clock)
    others = None if beside is None else read_beside(beside)
    if logs is not None:
        require_writable(logs)
    with RunFolder.opened(out) as folder:
        folder.require_own(recipe.name, data, places_of(recipe), replace=replace)
        yield StageEvent(stage="reading")
        source = Source(dataset=dataset, identity=dataset.identity(), leaks=leaks, seed=recipe.seed)
        builder = Builder(recipe, folder, source, start=start, logs=logs, beside=others, clock=asked)
        yield from train_and_verify(builder)
        verification = builder.verification
        if verification.passed:
            yield from builder.reference()
        bundle = yield from builder.pack()
        report = yield from builder.report(bundle)
        forget_repeats(builder)
        repeats: Repeats | None = None
        # What a missed gate asks to be changed would be trained several times over.
        if seeds > 1 and verification.passed:
            repeats = yield from repeat_seeds(builder, seeds, train_and_verify)
        elif folds and verification.passed:
            repeats = yield from cross_validate(builder, folds, train_and_verify)
    if not verification.passed:
        old = out / f"{recipe.name}.edge.old"
        kept = f" ({old} is an earlier build's)" if old.exists() else ""
        raise GateError(
            f"the int8 model misses a gate, so no bundle was made{kept}\n{gate_table(verification.gates)}",
            remedy=f"look at {report}; {_way_out(verification, recipe)}",
        )
    return Build(bundle=bundle, report=report, verification=verification, repeats=repeats)


def places_of(recipe: Recipe) -> tuple[str, ...]:
    """What a build writes into its folder, by name."""
    return (*PLACES, *REPEATS, f"{recipe.name}.edge")


def _way_out(verification: Verification, recipe: Recipe) -> str:
    """What to do about the gates that were missed."""
    missed = {gate.name for gate in verification.gates if gate.required and not gate.passed}
    float32 = verification.evaluations["val/float32"].auc.value
    if missed <= LOST_BY_INT8 and float32 >= recipe.gates.min_auc:
        if recipe.quantize.repair:
            return f"no int8 file that was searched for meets them; {other_ways(recipe)}"
        return "set quantize.repair = true, which searches for an int8 file that loses less, or change the gate"
    return "train longer, prune less, add pictures, or change the gate in the recipe"


def train_and_verify(build: Builder) -> Events:
    """The stages up to the measured int8 file."""
    yield from build.data()
    yield from build.teacher()
    yield from build.finetune()
    yield from build.prune()
    yield from build.quantize()
    yield from build.verify()


def require_outside(out: Path, data: Path) -> None:
    """Raise EdgeError where a build's folder and the data set lie one inside the other.

    The build's pictures would be taken for the set's, or its stages would take the set's place.
    """
    within, around = out.resolve(), data.resolve()
    if within.is_relative_to(around):
        said = f"the build's folder {out} lies inside the data set"
    elif around.is_relative_to(within):
        said = f"the data set {data} lies inside the build's folder {out}"
    else:
        return
    raise EdgeError(said, remedy="name a folder elsewhere with --out")


def check_clock(recipe: Recipe, clock: str | None) -> Clock | None:
    """The clock that a command names, asked once. Raises EdgeError where it does not answer, or nothing would ask it:
    before hours of training.
    """
    if clock is None:
        return None
    if not recipe.prune.removes_channels:
        raise EdgeError(
            "a clock is only asked where channels are removed", remedy="leave --clock out, or set prune.method"
        )
    found = ProgramClock(clock)
    finish(found.measure([]))
    return found


def check_early(recipe: Recipe, dataset: Dataset, seeds: int = 1, folds: int = 0) -> None:
    """Raise EdgeError for what the later stages would only find after every picture has been read, or much later."""
    network.check_network(recipe)
    if recipe.on_request in ("grad-cam", "hires-cam"):
        untrained = network.build_classifier(recipe, weights="none")
        check_gradient(untrained, require_finer_layer(untrained))
    if recipe.teacher != "none":
        try:
            network.check_network(teachers_recipe(recipe))
        except RecipeError as error:
            raise RecipeError(
                f"of the teacher: {error.message}", remedy="mend `teacher` or its keys below `distill`"
            ) from None
    export.calibration_source(recipe)
    missing = missing_splits(dataset.counts()) if dataset.has_splits else []
    if missing:
        raise DataError(
            f"the data set has splits, and none is called {missing[0]!r}",
            remedy=f"make one of part of train; or split all anew, test too: edge data split {dataset.folder} --out "
            f"{dataset.folder}/manifest.csv --again",
        )
    require_groups(recipe.decision.level, dataset.has_groups)
    replace(recipe, seed=recipe.seed + seeds - 1)
    if folds:
        if folds < FEWEST_FOLDS:
            raise EdgeError(f"{folds} folds leave none to train on", remedy=f"use {FEWEST_FOLDS} or more; 5 is usual")
        assign_folds(dataset, folds=folds, seed=recipe.seed)
    if recipe.train.strategy != "none":
        devices(recipe.train.strategy)
