"""The build's stages, in order: data, finetune, prune, quantize, verify, pack, report. Read this file first.

Each stage leaves its artefacts in a folder of its name below the build's folder. A stage whose inputs have not changed
is not run again. TensorFlow is imported by the stages that need it, so a build that reuses them stays quick.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from edge import __version__
from edge.dataset import Dataset, read_dataset
from edge.errors import EdgeError, GateError
from edge.fields import plain
from edge.split import assign_splits
from edge_convert import export, network
from edge_convert.data.check import check_dataset, raise_on_leak
from edge_convert.data.repair import drop_leaks
from edge_convert.finetune import Epoch, finetune
from edge_convert.pack import pack
from edge_convert.prepare import Prepared, load_prepared, prepare
from edge_convert.progress import Progress, Steps, translate
from edge_convert.prune import LayerSparsity, prune
from edge_convert.recipe import Recipe
from edge_convert.report import ReportInputs, write_report
from edge_convert.run_folder import RunFolder, key_of
from edge_convert.verify import Verification, gate_table, load_verification, save_verification, verify

T = TypeVar("T")
Leaks = Literal["refuse", "drop"]
STAGES = ("data", "finetune", "prune", "quantize", "verify", "pack", "report")
WEIGHTS = "weights.npz"
HISTORY = "history.json"
SPARSITY = "sparsity.json"
CALIBRATION = "calibration.json"
DENSE = "dense.float32.tflite"
REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class StageEvent:
    """What the build is doing. reused: an earlier build's artefacts of this stage still hold."""

    stage: str
    reused: bool = False
    progress: Progress | None = None


Events = Generator[StageEvent, None, None]


@dataclass(frozen=True, kw_only=True)
class Build:
    """Where a build's results are. bundle: None where a gate was missed."""

    bundle: Path | None
    report: Path
    verification: Verification


def convert(
    recipe: Recipe,
    data: Path,
    out: Path,
    *,
    start: str | None = None,
    leaks: Leaks = "refuse",
    group_pattern: str | None = None,
) -> Generator[StageEvent, None, Build]:
    """Labelled pictures to a bundle and a report.

    data: the data set's folder; group_pattern: see `read_dataset`. out: the build's folder, made where needed. start:
    this stage and those after it are run even where their artefacts hold. leaks: what to do with a group or picture
    that is in several splits: refuse the data set, or drop it from all but the last of them. Yields what it is doing;
    returns where the results are. Raises DataError for a leaking or unusable data set, GateError (after the report is
    written) where the int8 model misses a gate.
    """
    if start is not None and start not in STAGES:
        raise EdgeError(f"there is no stage {start!r}", remedy=f"use one of {', '.join(STAGES)}")
    if out.resolve().is_relative_to(data.resolve()):
        raise EdgeError(
            f"the build's folder {out} lies inside the data set", remedy="name a folder elsewhere with --out"
        )
    _check_early(recipe)
    with RunFolder.opened(out) as folder:
        build = _Builder(recipe, folder, start)
        yield from build.data(read_dataset(data, group_pattern=group_pattern), leaks)
        yield from build.finetune()
        yield from build.prune()
        yield from build.quantize()
        yield from build.verify()
        bundle = yield from build.pack()
        report = yield from build.report(bundle)
        verification = build.verification
    if not verification.passed:
        raise GateError(
            "the int8 model misses a gate, so no bundle was made and none is left in the build's folder\n"
            f"{gate_table(verification.gates)}",
            remedy=f"look at {report}; train longer, prune less, add pictures, or change the gate in the recipe",
        )
    return Build(bundle=bundle, report=report, verification=verification)


def _check_early(recipe: Recipe) -> None:
    """Raise RecipeError for what the later stages would only find after every picture has been read."""
    network.check_network(recipe)
    export.calibration_source(recipe)


class _Builder:
    """The stages of one build; each method runs one, or finds that it need not."""

    def __init__(self, recipe: Recipe, folder: RunFolder, start: str | None) -> None:
        self.recipe, self.folder = recipe, folder
        self._forced = STAGES[STAGES.index(start) :] if start else ()
        self._key = ""

    def data(self, dataset: Dataset, leaks: Leaks) -> Events:
        """Check, split and preprocess the pictures."""
        r = self.recipe
        fingerprint = dataset.fingerprint()
        # The fingerprint is of pictures, labels and groups; what else the later stages read of the set is here.
        described = [dataset.name, dataset.synthetic, dataset.has_groups, str(dataset.folder.resolve())]
        wanted = [plain(r.preprocessing), r.classes, r.positive, r.seed, leaks]
        if self._enter("data", __version__, described, wanted, fingerprint):
            with self.folder.writing("data", self._key) as stage:
                yield StageEvent(stage="data")
                dataset, dropped = yield from _report_steps("data", _without_leaks(dataset, r.seed, leaks))
                yield from _report_steps("data", prepare(r, dataset, fingerprint, dropped, stage))
        else:
            yield StageEvent(stage="data", reused=True)

    def finetune(self) -> Events:
        """Train the network."""
        r = self.recipe
        weights = Path(r.network.weights)
        source = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else r.network.weights
        settings = {**plain(r.network), "weights": source}
        if not self._enter("finetune", settings, plain(r.train), r.seed):
            yield StageEvent(stage="finetune", reused=True)
            return
        with self.folder.writing("finetune", self._key) as stage:
            model, history = yield from _report_steps("finetune", finetune(r, self.prepared))
            _save_network(stage, model, history)

    def prune(self) -> Events:
        """Zero the small weights while training on."""
        if not self._enter("prune", plain(self.recipe.prune)):
            yield StageEvent(stage="prune", reused=True)
            return
        with self.folder.writing("prune", self._key) as stage:
            model = self._load("finetune")
            model, history, sparsity = yield from _report_steps("prune", prune(self.recipe, model, self.prepared))
            _save_network(stage, model, history)
            rows = [asdict(row) for row in sparsity]
            (stage / SPARSITY).write_text(json.dumps(rows, indent=1), encoding="utf-8")

    def quantize(self) -> Events:
        """Export the float32 and the int8 file."""
        if not self._enter("quantize", plain(self.recipe.quantize), export.calibration_source(self.recipe)):
            yield StageEvent(stage="quantize", reused=True)
            return
        with self.folder.writing("quantize", self._key) as stage:
            yield from _report_steps("quantize", self._export(stage))

    def verify(self) -> Events:
        """Measure the files through the runtime."""
        r = self.recipe
        if not self._enter("verify", plain(r.decision), plain(r.gates)):
            yield StageEvent(stage="verify", reused=True)
            return
        with self.folder.writing("verify", self._key) as stage:
            dense = (self.folder.stage("quantize") / DENSE).read_bytes()
            steps = verify(r, self.prepared, self._models(), dense)
            save_verification(stage, (yield from _report_steps("verify", steps)))

    def pack(self) -> Generator[StageEvent, None, Path | None]:
        """Write the bundle, where every gate is met. An older one never outlives a build that missed a gate."""
        path = self.folder.path / f"{self.recipe.name}.edge"
        verification = self.verification
        if not verification.passed:
            path.unlink(missing_ok=True)
            return None
        yield StageEvent(stage="pack")
        manifest = pack(self.recipe, self.prepared, self._models(), verification, self._sparsity(), path)
        note = f"{path}: {path.stat().st_size / 1e6:.1f} MB, {len(manifest.golden)} golden pictures"
        yield StageEvent(stage="pack", progress=Progress(done=1, total=1, note=note))
        return path

    def report(self, bundle: Path | None) -> Generator[StageEvent, None, Path]:
        """Write the report, whether or not the gates are met."""
        yield StageEvent(stage="report")
        path = self.folder.path / REPORT
        inputs = ReportInputs(
            recipe=self.recipe,
            prepared=self.prepared,
            models=self._models(),
            verification=self.verification,
            history=(*self._history("finetune"), *self._history("prune")),
            sparsity=tuple(self._sparsity()),
            calibration=tuple(self._calibration()),
            bundle=bundle,
        )
        write_report(path, inputs)
        yield StageEvent(stage="report", progress=Progress(done=1, total=1, note=str(path)))
        return path

    @cached_property
    def prepared(self) -> Prepared:
        """The data stage's pictures, mapped from disk."""
        return load_prepared(self.folder.stage("data"))

    @cached_property
    def verification(self) -> Verification:
        """The verify stage's result."""
        return load_verification(self.folder.stage("verify"))

    def _enter(self, stage: str, *made_from: Any) -> bool:
        """Whether a stage must run. Its key holds all the stages before it, so a change runs all that follow."""
        self._key = key_of(self._key, stage, *made_from)
        return stage in self._forced or not self.folder.is_done(stage, self._key)

    def _export(self, stage: Path) -> Steps[None]:
        r, total = self.recipe, 3
        pruned = self._load("prune")
        files = {"float32": export.export_float(r, pruned)}
        yield Progress(done=1, total=total)
        names, pictures = export.calibration_pictures(r, self.prepared)
        files["int8"] = export.export_int8(r, pruned, pictures)
        yield Progress(done=2, total=total)
        dense = export.export_float(r, self._load("finetune")) if r.prune.sparsity else files["float32"]
        export.write_models(stage, files)
        (stage / DENSE).write_bytes(dense)
        (stage / CALIBRATION).write_text(json.dumps(names, indent=1), encoding="utf-8")
        sizes = ", ".join(f"{name} {len(data) / 1e6:.2f} MB" for name, data in files.items())
        yield Progress(done=total, total=total, note=f"{sizes}, calibrated on {len(names)} pictures")

    def _load(self, stage: str) -> Any:
        return network.load_classifier(self.recipe, self.folder.stage(stage) / WEIGHTS)

    def _models(self) -> dict[str, bytes]:
        return export.read_models(self.folder.stage("quantize"))

    def _calibration(self) -> list[str]:
        names: list[str] = json.loads((self.folder.stage("quantize") / CALIBRATION).read_text(encoding="utf-8"))
        return names

    def _history(self, stage: str) -> list[Epoch]:
        rows = json.loads((self.folder.stage(stage) / HISTORY).read_text(encoding="utf-8"))
        return [Epoch(**row) for row in rows]

    def _sparsity(self) -> list[LayerSparsity]:
        rows = json.loads((self.folder.stage("prune") / SPARSITY).read_text(encoding="utf-8"))
        return [LayerSparsity(**row) for row in rows]


def _save_network(stage: Path, model: Any, history: list[Epoch]) -> None:
    network.save_weights(model, stage / WEIGHTS)
    (stage / HISTORY).write_text(json.dumps([asdict(epoch) for epoch in history], indent=1), encoding="utf-8")


def _without_leaks(dataset: Dataset, seed: int, leaks: Leaks) -> Steps[tuple[Dataset, tuple[str, ...]]]:
    """The data set in splits; where they leak, refused in the words of `edge data check`, or less what leaks."""
    report = yield from check_dataset(dataset, seed=seed)
    if leaks == "refuse":
        raise_on_leak(report)
    return drop_leaks(assign_splits(dataset, seed=seed), report)


def _report_steps(stage: str, steps: Steps[T]) -> Generator[StageEvent, None, T]:
    """A stage's own steps as events of the build."""
    return (yield from translate(steps, lambda progress: StageEvent(stage=stage, progress=progress)))
